/* Faults on purpose in results, put between the target and the kernels by the
 * linker's --wrap: FAULT=result, status or beyond. The target has to notice. */
#include <stdlib.h>
#include <string.h>

#include "drivers/walk.h"

int __real_drop_apply(const drop_kernels *kernels, const drop_mask *mask, uint64_t first,
                      drop_arrays *arrays, drop_dtype dtype, double scale, int threads);

int __wrap_drop_apply(const drop_kernels *kernels, const drop_mask *mask, uint64_t first,
                      drop_arrays *arrays, drop_dtype dtype, double scale, int threads);

int __wrap_drop_apply(const drop_kernels *kernels, const drop_mask *mask, uint64_t first,
                      drop_arrays *arrays, drop_dtype dtype, double scale, int threads)
{
    const char *fault = getenv("FAULT");
    uint64_t size = 1;
    for (int i = 0; i < arrays->ndim; i++) size *= (uint64_t)arrays->shape[i];
    int status = __real_drop_apply(kernels, mask, first, arrays, dtype, scale, threads);
    if (!fault || size == 0) return status;
    if (strcmp(fault, "result") == 0) arrays->y[0] ^= 1;
    if (strcmp(fault, "beyond") == 0) arrays->y[-1] ^= 1; /* a neighbour, a gap or a page of its own */
    return strcmp(fault, "status") == 0 ? 5 : status;
}
