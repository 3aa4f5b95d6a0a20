/* Mask format 1 (docs/mask-format.md): random words in, packed keep bits out. */
#ifndef DROP_MASK_BITS_H
#define DROP_MASK_BITS_H

#include "kernels.h"
#include "vec.h"

enum {
    DROP_STRIP_WORDS = 8, /* a plane of a strip: 512 elements */
    DROP_PLANES = 8,       /* bits every element gets before refinement */
    DROP_REFINE_WORDS = 128,
    DROP_REFINE_BATCH = 16 /* words: 32 numbers, and a block needs 16 on average */
};

#define DROP_ONE ((uint64_t)1 << 40) /* probability one, as a threshold */

/* Bits of the threshold that planes have to be drawn for. */
DROP_INLINE int significant_bits(uint64_t threshold)
{
    return threshold == 0 || threshold == DROP_ONE ? 0 : 40 - __builtin_ctzll(threshold);
}

static uint64_t block_words(uint64_t threshold)
{
    int bits = significant_bits(threshold);
    if (bits <= DROP_PLANES) return (uint64_t)bits * DROP_BLOCK_WORDS;
    return DROP_PLANES * DROP_BLOCK_WORDS + DROP_REFINE_WORDS;
}

/* Decides the elements whose planes equal the threshold's: the r-th of them in
 * the block takes the r-th 32-bit number of the block's refinement range, whose
 * first DROP_REFINE_BATCH words are in `numbers` if `drawn`. */
DROP_INLINE int refine(const drop_mask *mask, uint64_t base, uint64_t words,
                       const uint64_t *undecided, uint64_t *numbers, int drawn, uint64_t *keep)
{
    const uint64_t range = base + DROP_PLANES * DROP_BLOCK_WORDS;
    const uint32_t low = (uint32_t)mask->threshold;
    /* A bit for each word with work in it: looking at every word in turn would
     * mispredict a branch at most of the few that have some. */
    uint64_t work = 0, left = 0, w = 0;
    for (uint64_t i = 0; i < words; i++) work |= (uint64_t)(undecided[i] != 0) << i;
    for (unsigned rank = 0;; rank++) {
        if (!left) {
            if (!work) return 0;
            w = (uint64_t)__builtin_ctzll(work);
            work &= work - 1;
            left = undecided[w];
        }
        unsigned word = rank / 2 % DROP_REFINE_WORDS;
        if (rank % (2 * DROP_REFINE_BATCH) == 0 && !(drawn && rank == 0)) {
            int failed = mask->fill(mask->key, range + word, DROP_REFINE_BATCH, numbers);
            if (failed) return failed;
        }
        uint32_t u = (uint32_t)(numbers[word % DROP_REFINE_BATCH] >> (rank % 2 * 32));
        keep[w] |= (uint64_t)(u < low) << __builtin_ctzll(left);
        left &= left - 1;
    }
}

/* Compares plane by plane, last plane first: whatever later planes said stands
 * only where this plane's bit equals the threshold's. */
DROP_INLINE void compare_planes(const uint64_t *planes, int n, const uint64_t *threshold,
                                uint64_t *keep, uint64_t *undecided)
{
    vu64 less = {0}, equal = ~less;
    for (int j = n - 1; j >= 0; j--) {
        vu64 u = DROP_LOAD(vu64, planes + j * DROP_STRIP_WORDS);
        less = (~u & less) | (threshold[j] & (~u | less));
        equal &= ~(u ^ threshold[j]);
    }
    DROP_STORE(keep, less);
    DROP_STORE(undecided, equal);
}

/* keep[0 .. DROP_BLOCK_WORDS-1]: the first n elements of block number `block`,
 * bit e % 64 of word e / 64; bits from n on are unspecified. */
static int block_bits(const drop_mask *mask, uint64_t block, uint64_t n, uint64_t *keep)
{
    const int bits = significant_bits(mask->threshold), planes = bits < DROP_PLANES ? bits : DROP_PLANES;
    if (planes == 0) {
        memset(keep, mask->threshold ? 0xff : 0, DROP_BLOCK_WORDS * sizeof *keep);
        return 0;
    }
    enum { DENSE = DROP_BLOCK_WORDS * DROP_PLANES };
    uint64_t random[DENSE + DROP_REFINE_BATCH], undecided[DROP_BLOCK_WORDS];
    const uint64_t base = mask->draw + block * block_words(mask->threshold);
    const uint64_t strips = (n + DROP_STRIP_WORDS * 64 - 1) / (DROP_STRIP_WORDS * 64);
    const uint64_t dense = strips * planes * DROP_STRIP_WORDS;
    /* The refinement range follows a whole block's planes: one call draws both. */
    const int whole = bits > DROP_PLANES && dense == DENSE;
    int failed = mask->fill(mask->key, base, dense + (whole ? DROP_REFINE_BATCH : 0), random);
    if (failed) return failed;

    uint64_t threshold[DROP_PLANES];
    for (int j = 0; j < planes; j++)
        threshold[j] = -(mask->threshold >> (39 - j) & 1);
    for (uint64_t w = 0; w < strips * DROP_STRIP_WORDS; w += DROP_LANES64)
        compare_planes(random + w / DROP_STRIP_WORDS * planes * DROP_STRIP_WORDS + w % DROP_STRIP_WORDS,
                       planes, threshold, keep + w, undecided + w);
    if (bits <= DROP_PLANES) return 0;

    const uint64_t words = (n + 63) / 64;
    if (n % 64) undecided[words - 1] &= ~(uint64_t)0 >> (64 - n % 64);
    return refine(mask, base, words, undecided, random + DENSE, whole, keep);
}

#endif
