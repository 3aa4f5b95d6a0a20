/* Softmax with dropout of a tile's rows, and its backward pass: the steps of fastdrop/_formulas/softmax.py.
 *
 * Sums have an order of their own, the same for every instruction set: 64 bytes of lanes, one after the other
 * along the row, and then lanes by halves.
 */
#ifndef DROP_SOFTMAX_H
#define DROP_SOFTMAX_H

#include "kernels/bits.h"
#include "kernels/copy.h"
#include "kernels/lanes.h"
#include "math/elementary.h"

/* Columns of row r that count. */
DROP_INLINE size_t columns_of_row(const drop_tile *t, size_t r)
{
    const ptrdiff_t n = t->limit + (ptrdiff_t)r;
    return n < 0 ? 0 : (size_t)n < t->columns ? (size_t)n : t->columns;
}

/* The keep bits of 64 columns, from column c on. */
DROP_INLINE uint64_t bits_of_row(const drop_tile *t, size_t r, size_t c)
{
    if (!t->keep) return ~(uint64_t)0;
    const uint64_t at = t->bit + r * t->bit_pitch + c, shift = at % 64;
    const uint64_t *word = t->keep + at / 64;
    return shift ? word[0] >> shift | word[1] << (64 - shift) : word[0];
}

#define PRECISION_BODY "kernels/softmax_body.h"
#include "math/precisions.def"

#endif
