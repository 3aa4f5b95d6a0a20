/* Philox4x64-10 as NumPy's Philox runs it: same paper as philox4x32.h.
 *
 * key[0..1] is the Philox key, key[2..5] the 256-bit counter (low word first)
 * that NumPy's state holds before the first draw. NumPy adds one to the counter
 * and then generates, so words 0..3 come from that counter plus one.
 */
#ifndef DROP_PHILOX4X64_H
#define DROP_PHILOX4X64_H

#include "kernels/copy.h"
#include "kernels/vec.h"

typedef unsigned __int128 u128;

#define DROP_PHILOX4X64_M0 0xD2E7470EE14C6C93u
#define DROP_PHILOX4X64_M1 0xCA5A826395121157u
#define DROP_PHILOX4X64_W0 0x9E3779B97F4A7C15u
#define DROP_PHILOX4X64_W1 0xBB67AE8584CAA73Bu

DROP_INLINE void philox4x64_block(const uint64_t *key, const uint64_t *counter, uint64_t *out)
{
    uint64_t k0 = key[0], k1 = key[1];
    uint64_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
    for (int r = 0; r < 10; r++) {
        u128 a = (u128)x0 * DROP_PHILOX4X64_M0, b = (u128)x2 * DROP_PHILOX4X64_M1;
        x0 = (uint64_t)(b >> 64) ^ x1 ^ k0;
        x1 = (uint64_t)b;
        x2 = (uint64_t)(a >> 64) ^ x3 ^ k1;
        x3 = (uint64_t)a;
        k0 += DROP_PHILOX4X64_W0;
        k1 += DROP_PHILOX4X64_W1;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* counter += n, modulo 2^256. */
DROP_INLINE void philox4x64_skip(uint64_t *counter, uint64_t n)
{
    for (int i = 0; i < 4 && n; i++) {
        counter[i] += n;
        n = counter[i] < n;
    }
}

#if DROP_IFMA

/* x * m as 128 bits, from 52-bit limbs: madd52 reads the low 52 bits of its
 * factors, so x and m stand for their own low limbs. */
DROP_INLINE void philox4x64_multiply(__m512i x, uint64_t m, __m512i *high, __m512i *low)
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i m0 = _mm512_set1_epi64((long long)m), m1 = _mm512_set1_epi64((long long)(m >> 52));
    __m512i x1 = _mm512_srli_epi64(x, 52);
    __m512i t0 = _mm512_madd52lo_epu64(zero, x, m0);
    __m512i t1 = _mm512_madd52hi_epu64(zero, x, m0);
    __m512i t2 = _mm512_madd52hi_epu64(zero, x, m1);
    t1 = _mm512_madd52lo_epu64(t1, x, m1);
    t2 = _mm512_madd52hi_epu64(t2, x1, m0);
    t1 = _mm512_madd52lo_epu64(t1, x1, m0);
    t2 = _mm512_madd52lo_epu64(t2, x1, m1);
    *low = _mm512_add_epi64(t0, _mm512_slli_epi64(t1, 52));
    *high = _mm512_add_epi64(_mm512_srli_epi64(t1, 12), _mm512_slli_epi64(t2, 40));
}

enum { DROP_PHILOX4X64_SIDE = 2, DROP_PHILOX4X64_BLOCKS = 8 * DROP_PHILOX4X64_SIDE };

/* As many consecutive counters, one in each lane. Needs counter[0] not to
 * overflow on the way. */
DROP_INLINE void philox4x64_batch(const uint64_t *key, const uint64_t *counter, uint64_t *out)
{
    enum { SIDE = DROP_PHILOX4X64_SIDE };
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    __m512i x0[SIDE], x1[SIDE], x2[SIDE], x3[SIDE];
    uint64_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < SIDE; i++) {
        x0[i] = _mm512_add_epi64(_mm512_set1_epi64((long long)(counter[0] + 8 * (uint64_t)i)), lane);
        x1[i] = _mm512_set1_epi64((long long)counter[1]);
        x2[i] = _mm512_set1_epi64((long long)counter[2]);
        x3[i] = _mm512_set1_epi64((long long)counter[3]);
    }
    for (int r = 0; r < 10; r++) {
        const __m512i r0 = _mm512_set1_epi64((long long)k0), r1 = _mm512_set1_epi64((long long)k1);
        for (int i = 0; i < SIDE; i++) {
            __m512i a_high, a_low, b_high, b_low;
            philox4x64_multiply(x0[i], DROP_PHILOX4X64_M0, &a_high, &a_low);
            philox4x64_multiply(x2[i], DROP_PHILOX4X64_M1, &b_high, &b_low);
            x0[i] = _mm512_xor_si512(_mm512_xor_si512(b_high, x1[i]), r0);
            x2[i] = _mm512_xor_si512(_mm512_xor_si512(a_high, x3[i]), r1);
            x1[i] = b_low;
            x3[i] = a_low;
        }
        k0 += DROP_PHILOX4X64_W0;
        k1 += DROP_PHILOX4X64_W1;
    }
    for (int i = 0; i < SIDE; i++) {
        /* Lane c holds block c's four words; memory wants block after block. */
        __m512i a = _mm512_unpacklo_epi64(x0[i], x1[i]), b = _mm512_unpackhi_epi64(x0[i], x1[i]);
        __m512i c = _mm512_unpacklo_epi64(x2[i], x3[i]), d = _mm512_unpackhi_epi64(x2[i], x3[i]);
        const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        __m512i even0 = _mm512_permutex2var_epi64(a, first, c); /* blocks 0 and 2 */
        __m512i even1 = _mm512_permutex2var_epi64(a, second, c); /* 4 and 6 */
        __m512i odd0 = _mm512_permutex2var_epi64(b, first, d);
        __m512i odd1 = _mm512_permutex2var_epi64(b, second, d);
        uint64_t *to = out + 32 * i;
        _mm512_storeu_si512(to, _mm512_shuffle_i64x2(even0, odd0, 0x44));
        _mm512_storeu_si512(to + 8, _mm512_shuffle_i64x2(even0, odd0, 0xee));
        _mm512_storeu_si512(to + 16, _mm512_shuffle_i64x2(even1, odd1, 0x44));
        _mm512_storeu_si512(to + 24, _mm512_shuffle_i64x2(even1, odd1, 0xee));
    }
}

#endif

static int philox4x64_fill(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    uint64_t k[6];
    memcpy(k, key, sizeof k);
    uint64_t *counter = k + 2;
    philox4x64_skip(counter, position / 4);
    philox4x64_skip(counter, 1);
    uint64_t skip = position % 4;
#if DROP_IFMA
    enum { BATCH = 4 * DROP_PHILOX4X64_BLOCKS };
    while (skip == 0 && n >= BATCH && counter[0] <= UINT64_MAX - DROP_PHILOX4X64_BLOCKS) {
        philox4x64_batch(k, counter, out);
        philox4x64_skip(counter, DROP_PHILOX4X64_BLOCKS);
        out += BATCH;
        n -= BATCH;
    }
#endif
    for (; n > 0; skip = 0) {
        uint64_t block[4], take = 4 - skip < n ? 4 - skip : n;
        philox4x64_block(k, counter, block);
        copy_bytes(out, block + skip, take * sizeof *out);
        philox4x64_skip(counter, 1);
        out += take;
        n -= take;
    }
    return 0;
}

#endif
