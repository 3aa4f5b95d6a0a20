/* Masks by themselves, without arrays that they are applied to. */
#ifndef DROP_MASK_H
#define DROP_MASK_H

#include "kernels/kernels.h"
#include "runtime/tasks.h"

/* Keep bits of elements first .. first+n-1: packed, (n + 7) / 8 bytes (item = 0), or a number each,
 * 1 or 0: bytes (item = 1) or bfloat16 (item = 2). Returns 0, or what `fill` returned if it failed. */
int drop_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int item, drop_workers by);

/* Packed ones in whole words, by the calling thread. */
int drop_range_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
                    uint64_t *out);

#endif
