/* Whole operations: every layout, every thread, one pass over memory. */
#ifndef DROP_WALK_H
#define DROP_WALK_H

#include <limits.h>

#include "kernels/kernels.h"

enum { DROP_MAX_DIMS = 64, DROP_NO_MEMORY = INT_MIN };

/* x and y: the same shape; strides in bytes. */
typedef struct {
    int ndim;
    const char *x;
    char *y;
    ptrdiff_t shape[DROP_MAX_DIMS], x_stride[DROP_MAX_DIMS], y_stride[DROP_MAX_DIMS];
} drop_arrays;

/* y = keep ? x * scale : +0, where x's element i in C order is the mask's
 * element first + i. Joins arrays' axes where it can. Returns 0, what `fill` returned if it failed, or
 * DROP_NO_MEMORY, and then nothing has been written. */
int drop_apply(const drop_kernels *kernels, const drop_mask *mask, uint64_t first,
               drop_arrays *arrays, drop_dtype dtype, double scale, int threads);

/* Packed keep bits of elements first .. first+n-1, (n + 7) / 8 bytes. */
int drop_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int threads);

/* The same, a number each, 1 or 0: bytes (item = 1) or bfloat16 (item = 2). */
int drop_ones(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int item, int threads);

#endif
