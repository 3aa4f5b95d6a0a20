/* y = keep ? x * scale : +0, for every dtype. */
#ifndef DROP_APPLY_H
#define DROP_APPLY_H

#include "kernels/copy.h"
#include "kernels/elements.h"

#define DTYPE_BODY "kernels/apply_body.h"
#include "kernels/dtypes.def"

#endif
