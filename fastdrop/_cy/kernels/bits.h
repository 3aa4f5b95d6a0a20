/* Moving packed bits: bit i is bit i % 64 of word i / 64. */
#ifndef DROP_BITS_H
#define DROP_BITS_H

#include <stdint.h>

#include "kernels/copy.h"

/* `n` bits (1 to 64) from bit `at` on. */
static inline uint64_t get_bits(const uint64_t *bits, uint64_t at, unsigned n)
{
    unsigned shift = at % 64;
    uint64_t v = bits[at / 64] >> shift;
    if (shift + n > 64) v |= bits[at / 64 + 1] << (64 - shift);
    return n < 64 ? v & (((uint64_t)1 << n) - 1) : v;
}

/* Appends n bits of `from`, from bit `at` on, at bit `to` of `out`; the rest of
 * the last word written becomes 0. */
static inline void copy_bits(uint64_t *out, uint64_t to, const uint64_t *from, uint64_t at, uint64_t n)
{
    if (to % 64 == 0 && at % 64 == 0) {
        copy_bytes(out + to / 64, from + at / 64, n / 64 * sizeof *out);
        to += n / 64 * 64, at += n / 64 * 64, n %= 64;
    }
    while (n > 0) {
        unsigned room = 64 - to % 64, take = n < room ? (unsigned)n : room;
        uint64_t v = get_bits(from, at, take);
        if (room == 64) out[to / 64] = v;
        else out[to / 64] |= v << (to % 64);
        to += take, at += take, n -= take;
    }
}

/* Bit c of word r and bit r of word c change places (Warren, "Hacker's
 * Delight", section 7-3): ever smaller off-diagonal squares are exchanged. */
static inline void transpose_bits(uint64_t *square)
{
    uint64_t low = 0x00000000ffffffffu;
    for (unsigned j = 32; j; j >>= 1, low ^= low << j)
        for (unsigned k = 0; k < 64; k = (k + j + 1) & ~j) {
            uint64_t t = (square[k] >> j ^ square[k + j]) & low;
            square[k] ^= t << j;
            square[k + j] ^= t;
        }
}

#endif
