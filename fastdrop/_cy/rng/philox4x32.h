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

/* The numbers that all counters of a run share. In the first two rounds half of
 * the arithmetic is on numbers that differ in no lane: that half is done once. */
typedef struct {
    uint64_t first, second[2]; /* what the first two rounds are left to exclude-or */
    uint64_t key[2 * 8];       /* for rounds 2 to 9 */
} philox4x32_run;

#define DROP_PHILOX4X32_M0 0xD2511F53u
#define DROP_PHILOX4X32_M1 0xCD9E8D57u

/* The upper half of `counter` is that of all counters of the run. */
DROP_INLINE philox4x32_run philox4x32_start(const uint64_t *key, uint64_t counter)
{
    const uint64_t m0 = DROP_PHILOX4X32_M0, m1 = DROP_PHILOX4X32_M1;
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
    DROP_PHILOX4X32_SIDE = DROP_VEC == 64 ? 4 : 3, /* as many as registers hold */
    DROP_PHILOX4X32_STEP = 2 * DROP_LANES64,       /* words of one vector's counters */
    DROP_PHILOX4X32_WIDE = DROP_PHILOX4X32_SIDE * DROP_PHILOX4X32_STEP,
    DROP_PHILOX4X32_ROUNDS = 8, /* after the first two */
};

typedef struct {
    vu64 x0[DROP_PHILOX4X32_SIDE], x1[DROP_PHILOX4X32_SIDE], x2[DROP_PHILOX4X32_SIDE], x3[DROP_PHILOX4X32_SIDE];
} philox4x32_lanes;

/* Rounds 0 and 1 for counters, `step` apart, whose lower half begins at `low`. */
DROP_INLINE void philox4x32_begin(philox4x32_lanes *s, int side, const philox4x32_run *run, uint64_t low,
                                  uint64_t step)
{
    const vu64 zero = {0};
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

DROP_INLINE void philox4x32_end(const philox4x32_lanes *s, int side, uint64_t *out)
{
#pragma GCC unroll 4
    for (int i = 0; i < side; i++)
        store_pairs(out + i * DROP_PHILOX4X32_STEP, join_low32(s->x0[i], s->x1[i]),
                    join_low32(s->x2[i], s->x3[i]));
}

DROP_INLINE void philox4x32_batch(const philox4x32_run *run, uint64_t low, uint64_t step, int side,
                                  uint64_t *out)
{
    philox4x32_lanes s;
    philox4x32_begin(&s, side, run, low, step);
#pragma GCC unroll 8
    for (int r = 0; r < DROP_PHILOX4X32_ROUNDS; r++) philox4x32_round(&s, side, run, r);
    philox4x32_end(&s, side, out);
}

/* Words from a position on whose counters share their upper halves. */
DROP_INLINE uint64_t philox4x32_left(uint64_t position)
{
    return ((uint64_t)2 << 32) - (position & (((uint64_t)2 << 32) - 1));
}

static int philox4x32_fill(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    enum { STEP = DROP_PHILOX4X32_STEP, WIDE = DROP_PHILOX4X32_WIDE };
    uint64_t k[2], batch[WIDE];
    memcpy(k, key, sizeof k);
    while (n > 0) {
        const philox4x32_run run = philox4x32_start(k, position / 2);
        uint64_t low = position / 2 & 0xffffffffu, skip = position % 2;
        uint64_t left = n < philox4x32_left(position) ? n : philox4x32_left(position);
        position += left;
        n -= left;
        if (skip == 0)
            for (; left >= WIDE; left -= WIDE, out += WIDE, low += WIDE / 2)
                philox4x32_batch(&run, low, 1, DROP_PHILOX4X32_SIDE, out);
        for (uint64_t take; left > 0; left -= take, out += take, skip = 0) {
            const uint64_t made = left + skip > 2 * STEP ? WIDE : left + skip > STEP ? 2 * STEP : STEP;
            if (made == WIDE) philox4x32_batch(&run, low, 1, DROP_PHILOX4X32_SIDE, batch);
            else if (made == 2 * STEP) philox4x32_batch(&run, low, 1, 2, batch);
            else philox4x32_batch(&run, low, 1, 1, batch);
            take = made - skip < left ? made - skip : left;
            copy_bytes(out, batch + skip, take * sizeof *out);
            low += made / 2;
        }
    }
    return 0;
}

/* Every eighth of 128 words: out[i] is word position + 8 * i. Returns 0 if it did nothing. */
static inline int philox4x32_eighths(const void *key, uint64_t position, uint64_t *out)
{
    enum { SIDE = 2, COUNTERS = SIDE * DROP_LANES64 };
    uint64_t k[2], batch[2 * COUNTERS];
    if (philox4x32_left(position) < 8 * 16) return 0;
    memcpy(k, key, sizeof k);
    const philox4x32_run run = philox4x32_start(k, position / 2);
    for (uint64_t i = 0; i < 16; i += COUNTERS) {
        philox4x32_batch(&run, (position / 2 & 0xffffffffu) + 4 * i, 4, SIDE, batch);
        for (uint64_t j = 0; j < COUNTERS; j++) out[i + j] = batch[2 * j + position % 2];
    }
    return 1;
}

#endif
