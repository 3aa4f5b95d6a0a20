/* y = keep ? x * scale : +0, for every dtype. */
#ifndef DROP_APPLY_H
#define DROP_APPLY_H

#include "kernels/parts.h"

#define DTYPE_BODY "kernels/apply_body.h"
#include "kernels/dtypes.def"

#endif
