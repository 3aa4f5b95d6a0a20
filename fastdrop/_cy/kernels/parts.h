/* y = keep ? x * scale : +0 for few elements of every dtype: what all loops over longer ones are made of. */
#ifndef DROP_PARTS_H
#define DROP_PARTS_H

#include "kernels/copy.h"
#include "kernels/elements.h"

#define DTYPE_BODY "kernels/parts_body.h"
#include "kernels/dtypes.def"

#endif
