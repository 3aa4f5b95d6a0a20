/* Noise: normal variates of random words, multiplied or added, for every real dtype.
 *
 * Element i takes word i, so a vector of n lanes reads n words, whatever the dtype.
 */
#ifndef DROP_NOISE_KERNELS_H
#define DROP_NOISE_KERNELS_H

#include "kernels/elements.h"
#include "math/normal.h"

enum { DROP_NOISE_PART = 256 }; /* elements whose first parts wait for their second */

#define DTYPE_BODY "kernels/noise_body.h"
#include "kernels/dtypes.def"

#endif
