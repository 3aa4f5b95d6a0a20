/* Masks by themselves, without arrays that they are applied to. */
#ifndef DROP_MASK_H
#define DROP_MASK_H

#include "drivers/arrays.h"
#include "runtime/tasks.h"

/* Keep bits of elements first .. first+n-1: packed, (n + 7) / 8 bytes (item = 0), or a number each,
 * 1 or 0: bytes (item = 1) or bfloat16 (item = 2). Returns 0, or what `fill` returned if it failed. */
int drop_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int item, drop_workers by);

/* Samples of one shape, which have a draw each: `mask` says the rest. */
typedef struct {
    drop_mask mask;
    const uint64_t *draws;
    uint64_t count;
} drop_samples;

/* Packed ones of the elements that a window picks of each sample, in C order: array 0 of the window has strides,
 * 0 or more, in elements, from element `first` on. Writes whole words, and joins the window's axes. */
int drop_window_bits(const drop_kernels *kernels, const drop_samples *samples, uint64_t first, drop_arrays *window,
                     uint64_t *out, drop_workers by);

/* Appends packed ones at bit `to` of `out`, in whole words, by the calling thread. */
int drop_range_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
                    uint64_t *out, uint64_t to);

#endif
