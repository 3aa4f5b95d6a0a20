/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011).
 *
 * key[0] is the Philox key, key[1] the upper half of the counter; the lower
 * half of the counter is position / 2, since a counter yields two words.
 */
#ifndef DROP_PHILOX4X32_H
#define DROP_PHILOX4X32_H

#include "kernels/copy.h"
#include "kernels/vec.h"
#include "rng/pairs.h"

/* The numbers that all counters of a run share. In the first two rounds half of
 * the arithmetic is on numbers that differ in no lane: that half is done once. */
typedef struct {
    uint64_t first, second[2]; /* what the first two rounds are left to exclude-or */
    uint64_t key[2 * 8];       /* for rounds 2 to 9 */
} philox4x32_run;

#define DROP_PHILOX4X32_M0 0xD2511F53u
#define DROP_PHILOX4X32_M1 0xCD9E8D57u

/* The upper half of `counter` is that of all counters of the run. */
DROP_INLINE philox4x32_run philox4x32_start(const void *at, uint64_t counter)
{
    const uint64_t m0 = DROP_PHILOX4X32_M0, m1 = DROP_PHILOX4X32_M1;
    uint64_t key[2];
    memcpy(key, at, sizeof key);
    uint32_t k0 = (uint32_t)key[0], k1 = (uint32_t)(key[0] >> 32);
    const uint64_t b = (uint32_t)key[1] * m1;                      /* round 0 */
    philox4x32_run r = {.first = (key[1] >> 32) ^ k1};
    const uint64_t a = (uint32_t)((b >> 32) ^ (counter >> 32) ^ k0) * m0;     /* round 1 */
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    r.second[0] = (uint32_t)b ^ k0;
    r.second[1] = (a >> 32) ^ k1;
    for (int i = 0; i < 16; i += 2) {
        r.key[i] = k0 += 0x9E3779B9u;
        r.key[i + 1] = k1 += 0xBB67AE85u;
    }
    r.key[1] ^= (uint32_t)a;                                       /* round 2 */
    return r;
}

/* Consecutive counters, one in each 64-bit lane, in several vectors side by side: a
 * round is a chain of dependent operations, and they fill its gaps. A lane
 * carries a 32-bit number in its low half and junk in its high half: mul32
 * never reads the junk, so no round has to clear it. */
enum {
    philox4x32_rounds = 8,                    /* after the first two */
    philox4x32_step = 2 * DROP_LANES64,       /* words of one vector's counters */
    philox4x32_side = DROP_VEC == 64 ? 4 : 3, /* as many as registers hold */
    /* In a pipeline so many that batches leave no rest, and elements have registers. */
    philox4x32_side_of_all = DROP_VEC == 64 ? 3 : 2,
    philox4x32_side_of_few = DROP_VEC == 64 ? 4 : 2,
};

typedef struct {
    vu64 x0[philox4x32_side], x1[philox4x32_side], x2[philox4x32_side], x3[philox4x32_side];
} philox4x32_lanes;

/* Rounds 0 and 1. */
DROP_INLINE void philox4x32_begin(philox4x32_lanes *s, int side, const philox4x32_run *run, uint64_t counter,
                                  uint64_t step)
{
    const vu64 zero = {0};
    const uint64_t low = (uint32_t)counter;
#pragma GCC unroll 4
    for (int i = 0; i < side; i++) {
        vu64 a = mul32(low + ((uint64_t)i * DROP_LANES64 + (vu64)DROP_PAIR_ORDER) * step, zero + DROP_PHILOX4X32_M0);
        s->x1[i] = mul32((a >> 32) ^ run->first, zero + DROP_PHILOX4X32_M1);
        s->x0[i] = (s->x1[i] >> 32) ^ run->second[0];
        s->x2[i] = a ^ run->second[1];
        s->x3[i] = zero; /* the same number in all lanes, and part of key[1] */
    }
}

/* Round 2 + r. */
DROP_INLINE void philox4x32_round(philox4x32_lanes *s, int side, const philox4x32_run *run, int r)
{
    const vu64 zero = {0};
#pragma GCC unroll 4
    for (int i = 0; i < side; i++) {
        vu64 a = mul32(s->x0[i], zero + DROP_PHILOX4X32_M0), b = mul32(s->x2[i], zero + DROP_PHILOX4X32_M1);
        s->x0[i] = (b >> 32) ^ s->x1[i] ^ run->key[2 * r];
        s->x2[i] = (a >> 32) ^ s->x3[i] ^ run->key[2 * r + 1];
        s->x1[i] = b;
        s->x3[i] = a;
    }
    /* GCC would put all rounds of one vector before those of the next. */
#pragma GCC unroll 4
    for (int i = 0; i < side; i++) DROP_PIN(s->x0[i], s->x2[i]);
}

DROP_INLINE void philox4x32_end(const philox4x32_lanes *s, int side, const philox4x32_run *run, uint64_t *out)
{
    (void)run;
#pragma GCC unroll 4
    for (int i = 0; i < side; i++)
        store_pairs(out + i * philox4x32_step, join_low32(s->x0[i], s->x1[i]),
                    join_low32(s->x2[i], s->x3[i]));
}

/* Words from a position on whose counters share their upper halves. */
DROP_INLINE uint64_t philox4x32_left(uint64_t position)
{
    return ((uint64_t)2 << 32) - (position & (((uint64_t)2 << 32) - 1));
}

#define GENERATOR philox4x32
#include "rng/pairs_body.h"

#endif
