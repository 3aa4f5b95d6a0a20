/* ARS4x32-7 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): AES's rounds
 * with round keys that are one addition apart.
 *
 * key[0] and key[1] are the first round key, low half first. The counter is position / 2, and the block that it
 * becomes is two words, low half first.
 */
#ifndef DROP_ARS4X32_H
#define DROP_ARS4X32_H

#include "rng/aes_round.h"
#include "rng/pairs.h"

enum {
    ars4x32_rounds = 6,               /* before the last one, which is another */
    ars4x32_step = DROP_AES_VEC / 8, /* words of one vector's counters */
    /* As many vectors as the processor begins before the first one's round ends. A block of the mask has
     * 336 words: no rest is left. */
    ars4x32_side = DROP_AES_VEC == 64 ? 6 : DROP_VAES ? 12 : DROP_AES ? 8 : 2,
    /* In a pipeline as many as leave no rest of any block's words. */
    ars4x32_side_of_all = DROP_AES_VEC == 64 ? 6 : 16 / ars4x32_step,
    ars4x32_side_of_few = DROP_AES_VEC == 64 ? 4 : 16 / ars4x32_step,
};

typedef struct { vaes key[ars4x32_rounds + 2]; } ars4x32_run;
typedef struct { vaes state[ars4x32_side]; } ars4x32_lanes;

DROP_INLINE ars4x32_run ars4x32_start(const void *key, uint64_t counter)
{
    const vaes first = repeat_block(key);
    const vaes step = (vaes)DROP_AES_BOTH(0x9E3779B97F4A7C15u, 0xBB67AE8584CAA73Bu);
    ars4x32_run run;
    (void)counter;
    for (uint64_t r = 0; r < ars4x32_rounds + 2; r++) run.key[r] = first + step * r;
    return run;
}

/* All counters share what a run has. */
DROP_INLINE uint64_t ars4x32_left(uint64_t position) { return (void)position, UINT64_MAX; }

DROP_INLINE void ars4x32_begin(ars4x32_lanes *s, int side, const ars4x32_run *run, uint64_t counter, uint64_t step)
{
    const vaes zero = {0}, first = (vaes)DROP_AES_BOTH(UINT64_MAX, 0), blocks = DROP_AES_NUMBERS;
    const vaes counters = (first & (zero + counter)) + blocks * step;
#pragma GCC unroll 16
    for (int i = 0; i < side; i++)
        s->state[i] = (counters + (first & (zero + (uint64_t)i * (ars4x32_step / 2) * step))) ^ run->key[0];
}

DROP_INLINE void ars4x32_round(ars4x32_lanes *s, int side, const ars4x32_run *run, int r)
{
#pragma GCC unroll 16
    for (int i = 0; i < side; i++) s->state[i] = aes_round(s->state[i], run->key[1 + r]);
#pragma GCC unroll 16
    for (int i = 0; i + 1 < side; i += 2) DROP_PIN(s->state[i], s->state[i + 1]);
}

DROP_INLINE void ars4x32_end(const ars4x32_lanes *s, int side, const ars4x32_run *run, uint64_t *out)
{
#pragma GCC unroll 16
    for (int i = 0; i < side; i++)
        DROP_STORE(out + i * ars4x32_step, aes_last_round(s->state[i], run->key[1 + ars4x32_rounds]));
}

#define GENERATOR ars4x32
#include "rng/pairs_body.h"

#endif
