/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011).
 *
 * key[0] is the Philox key, key[1] the upper half of the counter; the lower
 * half of the counter is position / 2, since a counter yields two words.
 */
#ifndef DROP_PHILOX4X32_H
#define DROP_PHILOX4X32_H

#include "vec.h"

/* Consecutive counters, one in each 64-bit lane. A lane carries a 32-bit number
 * in its low half and junk in its high half: mul32 never reads the junk, so no
 * round has to clear it. A round is a chain of dependent operations; `side`
 * vectors (a constant, at most 4) side by side fill its gaps. */
DROP_INLINE void philox4x32_batch(const uint64_t *round_keys, uint64_t counter, uint64_t upper,
                                  int side, uint64_t *out)
{
    const vu64 zero = {0}, m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
    vu64 x0[4], x1[4], x2[4], x3[4];
    for (int i = 0; i < side; i++) {
        x0[i] = counter + i * DROP_LANES64 + (vu64)DROP_FIRST64(0, 1, 2, 3, 4, 5, 6, 7);
        x1[i] = x0[i] >> 32;
        x2[i] = zero + upper;
        x3[i] = x2[i] >> 32;
    }
#pragma GCC unroll 10
    for (int r = 0; r < 10; r++)
#pragma GCC unroll 4
        for (int i = 0; i < side; i++) {
            vu64 a = mul32(x0[i], m0), b = mul32(x2[i], m1);
            x0[i] = (b >> 32) ^ x1[i] ^ round_keys[2 * r];
            x2[i] = (a >> 32) ^ x3[i] ^ round_keys[2 * r + 1];
            x1[i] = b;
            x3[i] = a;
        }
#pragma GCC unroll 4
    for (int i = 0; i < side; i++)
        store_interleaved(out + 2 * i * DROP_LANES64, (x0[i] & 0xffffffffu) | (x1[i] << 32),
                          (x2[i] & 0xffffffffu) | (x3[i] << 32));
}

static int philox4x32_fill(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    enum { STEP = 2 * DROP_LANES64, WIDE = 4 * STEP }; /* words of one vector pair, of four */
    uint64_t k[2], round_keys[20];
    memcpy(k, key, sizeof k);
    uint32_t k0 = (uint32_t)k[0], k1 = (uint32_t)(k[0] >> 32);
    for (int r = 0; r < 10; r++) {
        round_keys[2 * r] = k0;
        round_keys[2 * r + 1] = k1;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    uint64_t counter = position / 2, skip = position % 2;
    if (skip == 0)
        for (; n >= WIDE; n -= WIDE, out += WIDE, counter += WIDE / 2)
            philox4x32_batch(round_keys, counter, k[1], 4, out);
    for (; n > 0; counter += STEP / 2, skip = 0) {
        uint64_t batch[STEP], take = STEP - skip < n ? STEP - skip : n;
        philox4x32_batch(round_keys, counter, k[1], 1, batch);
        memcpy(out, batch + skip, take * sizeof *out);
        out += take;
        n -= take;
    }
    return 0;
}

#endif
