/* PCG64 (XSL RR 128/64) as NumPy's PCG64 runs it (O'Neill, "PCG: a family of
 * simple fast space-efficient statistically good algorithms for random number
 * generation", HMC-CS-2014-0905).
 *
 * key[0..1] is the 128-bit state and key[2..3] the increment, high word first.
 * Word n is the output of the state n + 1 steps on.
 */
#ifndef DROP_PCG64_H
#define DROP_PCG64_H

#include "kernels/vec.h"

typedef unsigned __int128 u128;

#define DROP_U128(hi, lo) ((u128)(hi) << 64 | (u128)(lo))
#define DROP_PCG64_MULTIPLIER DROP_U128(2549297995355413924u, 4865540595714422341u)

/* n steps at once are one step of another generator of the same kind, with
 * *multiplier and *increment (Brown, "Random number generation with arbitrary
 * strides", 1994). The table holds the steps 2**i for an increment of 1. */
typedef struct { u128 multiplier, increment; } pcg64_stride;

static pcg64_stride pcg64_strides[64];

static void pcg64_prepare(void)
{
    pcg64_stride s = {DROP_PCG64_MULTIPLIER, 1};
    for (int i = 0; i < 64; i++) {
        pcg64_strides[i] = s;
        s.increment *= s.multiplier + 1;
        s.multiplier *= s.multiplier;
    }
}

/* The stride of n steps for this increment. */
DROP_INLINE pcg64_stride pcg64_leap(uint64_t n, u128 increment)
{
    pcg64_stride s = {1, 0};
    for (; n; n &= n - 1) {
        const pcg64_stride *t = &pcg64_strides[__builtin_ctzll(n)];
        s.multiplier *= t->multiplier;
        s.increment = s.increment * t->multiplier + t->increment;
    }
    s.increment *= increment;
    return s;
}

DROP_INLINE uint64_t pcg64_output(u128 state)
{
    uint64_t hi = (uint64_t)(state >> 64), folded = hi ^ (uint64_t)state;
    unsigned r = (unsigned)(hi >> 58);
    return folded >> r | folded << (-r & 63);
}

/* A generator is a chain of dependent multiplications; leaping LANES at a time,
 * as many chains run side by side. */
DROP_INLINE void pcg64_scalar(u128 state, u128 increment, uint64_t n, uint64_t *out)
{
    enum { LANES = 4 };
    u128 lane[LANES];
    for (int i = 0; i < LANES; i++) lane[i] = state = state * DROP_PCG64_MULTIPLIER + increment;
    const pcg64_stride leap = pcg64_leap(LANES, increment);
    for (; n >= LANES; n -= LANES, out += LANES)
        for (int i = 0; i < LANES; i++) {
            out[i] = pcg64_output(lane[i]);
            lane[i] = lane[i] * leap.multiplier + leap.increment;
        }
    for (uint64_t i = 0; i < n; i++) out[i] = pcg64_output(lane[i]);
}

#if DROP_IFMA

/* 128-bit numbers in eight lanes, as limbs of 52, 52 and 24 bits. */
typedef struct { __m512i limb[3]; } pcg64_lanes;

DROP_INLINE __m512i pcg64_limb(u128 v, int i)
{
    return _mm512_set1_epi64((long long)((uint64_t)(v >> (52 * i)) & (((uint64_t)1 << 52) - 1)));
}

/* s * m + c modulo 2^128. madd52 ignores what a limb carries above bit 51 as a
 * factor, so carries are moved up before the next step and not within this one. */
DROP_INLINE pcg64_lanes pcg64_advance(pcg64_lanes s, const __m512i *m, const __m512i *c)
{
    const __m512i low52 = _mm512_set1_epi64(((long long)1 << 52) - 1);
    const __m512i low24 = _mm512_set1_epi64((1 << 24) - 1), zero = _mm512_setzero_si512();
    __m512i t0 = _mm512_madd52lo_epu64(c[0], s.limb[0], m[0]);
    __m512i t1 = _mm512_madd52lo_epu64(c[1], s.limb[1], m[0]);
    __m512i u1 = _mm512_madd52lo_epu64(zero, s.limb[0], m[1]);
    __m512i t2 = _mm512_madd52lo_epu64(c[2], s.limb[2], m[0]);
    __m512i u2 = _mm512_madd52lo_epu64(zero, s.limb[1], m[1]);
    __m512i v2 = _mm512_madd52lo_epu64(zero, s.limb[0], m[2]);
    t1 = _mm512_madd52hi_epu64(t1, s.limb[0], m[0]);
    u2 = _mm512_madd52hi_epu64(u2, s.limb[1], m[0]);
    v2 = _mm512_madd52hi_epu64(v2, s.limb[0], m[1]);
    t1 = _mm512_add_epi64(_mm512_add_epi64(t1, u1), _mm512_srli_epi64(t0, 52));
    t2 = _mm512_add_epi64(_mm512_add_epi64(t2, u2), _mm512_add_epi64(v2, _mm512_srli_epi64(t1, 52)));
    return (pcg64_lanes){{_mm512_and_si512(t0, low52), _mm512_and_si512(t1, low52),
                          _mm512_and_si512(t2, low24)}};
}

DROP_INLINE __m512i pcg64_outputs(pcg64_lanes s)
{
    __m512i low = _mm512_or_si512(s.limb[0], _mm512_slli_epi64(s.limb[1], 52));
    __m512i high = _mm512_or_si512(_mm512_srli_epi64(s.limb[1], 12), _mm512_slli_epi64(s.limb[2], 40));
    return _mm512_rorv_epi64(_mm512_xor_si512(low, high), _mm512_srli_epi64(high, 58));
}

/* Four vectors of eight lanes: 32 generators side by side. Returns how many
 * words it wrote, a multiple of 32. */
DROP_INLINE uint64_t pcg64_vector(u128 state, u128 increment, uint64_t n, uint64_t *out)
{
    enum { SIDE = 4, LANES = 8 * SIDE };
    if (n < LANES) return 0;
    uint64_t limbs[SIDE][3][8];
    for (int i = 0; i < LANES; i++) {
        state = state * DROP_PCG64_MULTIPLIER + increment;
        for (int j = 0; j < 3; j++)
            limbs[i / 8][j][i % 8] = (uint64_t)(state >> (52 * j)) & (((uint64_t)1 << 52) - 1);
    }
    pcg64_lanes lanes[SIDE];
    memcpy(lanes, limbs, sizeof lanes);
    const pcg64_stride leap = pcg64_leap(LANES, increment);
    const __m512i m[3] = {pcg64_limb(leap.multiplier, 0), pcg64_limb(leap.multiplier, 1),
                          pcg64_limb(leap.multiplier, 2)};
    const __m512i c[3] = {pcg64_limb(leap.increment, 0), pcg64_limb(leap.increment, 1),
                          pcg64_limb(leap.increment, 2)};
    uint64_t done = 0;
    for (; done + LANES <= n; done += LANES)
        for (int i = 0; i < SIDE; i++) {
            _mm512_storeu_si512(out + done + 8 * i, pcg64_outputs(lanes[i]));
            lanes[i] = pcg64_advance(lanes[i], m, c);
        }
    return done;
}

#endif

static int pcg64_fill(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    uint64_t k[4];
    memcpy(k, key, sizeof k);
    const u128 increment = DROP_U128(k[2], k[3]);
    const pcg64_stride leap = pcg64_leap(position, increment);
    u128 state = DROP_U128(k[0], k[1]) * leap.multiplier + leap.increment;
#if DROP_IFMA
    const uint64_t done = pcg64_vector(state, increment, n, out);
    if (done) {
        const pcg64_stride on = pcg64_leap(done, increment);
        state = state * on.multiplier + on.increment;
        out += done;
        n -= done;
    }
#endif
    if (n) pcg64_scalar(state, increment, n, out);
    return 0;
}

#endif
