/* Mask format 2: random words in, packed keep bits out. */
#ifndef DROP_BLOCK_BITS_H
#define DROP_BLOCK_BITS_H

#include "kernels/copy.h"
#include "kernels/mask_bits.h"
#include "rng/ars4x32.h"
#include "rng/philox4x32.h"

/* Compares 64 elements' numbers, as compare_planes does; a word is a plane. */
DROP_INLINE uint64_t compare_word(const uint64_t *planes, int n, const uint64_t *t, uint64_t *equal)
{
    uint64_t below = 0;
    *equal = ~below;
    for (int j = n - 1; j >= 0; j--) {
        below = (~planes[j] & below) | (t[j] & (~planes[j] | below));
        *equal &= ~(planes[j] ^ t[j]);
    }
    return below;
}

/* The first word of a block alone: every eighth word of the block's range, as far as the second strip,
 * decides it. Returns 0 if n elements need more words than that. */
DROP_INLINE int first_word_by(const uint64_t *words, const drop_block *b, int planes, int second, uint64_t n,
                              uint64_t *keep)
{
    uint64_t equal, same;
    *keep = compare_word(words + b->planes_at / 8, planes, b->t, &equal);
    if (second == 0) return 1;
    const uint64_t below = compare_word(words, second, b->t + DROP_PLANES, &same);
    *keep |= deposit(below, equal);
    return b->planes_at == b->refine_at || deposit(same, equal) << (64 - n) == 0;
}

/* The same from a generator. Returns 0, too, if it is one that has no quick way to such words. */
DROP_INLINE int first_word(const drop_mask *mask, const drop_block *b, uint64_t position, uint64_t n,
                           uint64_t *keep)
{
    uint64_t words[16];
    const int done = mask->fill == ars4x32_fill      ? ars4x32_eighths(mask->key, position, words)
                     : mask->fill == philox4x32_fill ? philox4x32_eighths(mask->key, position, words)
                                                     : 0;
    if (!done) return 0;
    if (b->second == DROP_SECOND_PLANES) /* said twice: constants unroll the loops */
        return first_word_by(words, b, DROP_PLANES, DROP_SECOND_PLANES, n, keep);
    return first_word_by(words, b, b->planes, b->second, n, keep);
}

/* keep[0 .. DROP_BLOCK_WORDS-1]: the first n elements of block number `block`,
 * bit e % 64 of word e / 64; bits from n on are unspecified. */
static int block_bits(const drop_mask *mask, uint64_t block, uint64_t n, uint64_t *keep)
{
    const drop_block b = block_layout(mask->threshold);
    if (b.planes == 0) {
        memset(keep, mask->threshold ? 0xff : 0, DROP_BLOCK_WORDS * sizeof *keep);
        return 0;
    }
    const uint64_t position = mask->draw + block * b.words;
    if (n <= 64 && first_word(mask, &b, position, n, keep)) return 0;
    _Alignas(64) uint64_t range[DROP_RANGE_WORDS];
    drop_compared c;
    const uint64_t strips = (n + DROP_STRIP - 1) / DROP_STRIP;
    const uint64_t drawn = b.planes_at + strips * (uint64_t)b.planes * DROP_STRIP_WORDS;
    int failed = fill_checked(mask->fill, mask->key, position, drawn, range);
    if (failed) return failed;
    compare_block(&b, range, strips, &c);
    uint64_t rank = 0;
    if (b.second)
#pragma GCC unroll 8
        for (uint64_t w = 0; w < strips * DROP_STRIP_WORDS; w++) keep[w] = keep_word(&c, 1, w, &rank);
    else copy_bytes(keep, c.less, strips * DROP_STRIP_WORDS * sizeof *keep);
    return 0;
}

#endif
