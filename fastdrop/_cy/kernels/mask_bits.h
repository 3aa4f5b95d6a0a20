/* Mask format 2 (docs/mask-format.md): what a block's random words decide. */
#ifndef DROP_MASK_BITS_H
#define DROP_MASK_BITS_H

#include "kernels/kernels.h"
#include "kernels/vec.h"

enum {
    DROP_PLANES = 4,        /* bits that every element gets */
    DROP_SECOND_PLANES = 8, /* bits that those get which the first leave undecided */
    DROP_REFINE_WORDS = 16  /* 32-bit numbers for those still undecided, two a word */
};

#define DROP_ONE ((uint64_t)1 << 40) /* probability one, as a threshold */

/* What a threshold makes of a block's range: how many planes, and where they are. */
typedef struct {
    int planes, second;   /* planes of every element, and of the undecided */
    uint64_t refine_at, planes_at, words; /* offsets in the range: numbers, planes, end */
    uint64_t t[DROP_PLANES + DROP_SECOND_PLANES]; /* the threshold's bits, each as a word of it */
    uint32_t last; /* its other bits, as the numbers' limit */
} drop_block;

DROP_INLINE drop_block block_layout(uint64_t threshold)
{
    /* Bits of the threshold that have to be drawn for. */
    const int bits = threshold == 0 || threshold == DROP_ONE ? 0 : 40 - __builtin_ctzll(threshold);
    enum { KNOWN = DROP_PLANES + DROP_SECOND_PLANES }; /* bits, of 40 */
    drop_block b = {.planes = bits < DROP_PLANES ? bits : DROP_PLANES,
                    .last = (uint32_t)(threshold << (KNOWN - 8))};
    const int rest = bits - b.planes;
    b.second = rest < DROP_SECOND_PLANES ? rest : DROP_SECOND_PLANES;
    b.refine_at = (uint64_t)b.second * DROP_STRIP_WORDS;
    b.planes_at = b.refine_at + (rest > DROP_SECOND_PLANES ? DROP_REFINE_WORDS : 0);
    b.words = b.planes_at + (uint64_t)b.planes * DROP_BLOCK_WORDS;
    for (int j = 0; j < KNOWN; j++) b.t[j] = -(threshold >> (39 - j) & 1);
    return b;
}

/* Compares plane by plane, last plane first: whatever later planes said stands
 * only where this plane's bit equals the threshold's, whose bits are `t`. */
DROP_INLINE void compare_planes(const uint64_t *planes, int n, const uint64_t *t, uint64_t *less,
                                uint64_t *equal)
{
    for (int w = 0; w < DROP_STRIP_WORDS; w += DROP_LANES64) {
        const vu64 zero = {0};
        vu64 below = zero, differ = zero;
        for (int j = n - 1; j >= 0; j--) {
            const vu64 u = DROP_LOAD(vu64, planes + j * DROP_STRIP_WORDS + w);
            below = below_by_plane(u, zero + t[j], below);
            differ = differ_by_plane(u, zero + t[j], differ);
        }
        DROP_STORE(less + w, below);
        DROP_STORE(equal + w, ~differ);
    }
}

/* The lowest bits of v, one for each set bit of `where`, moved there. */
DROP_INLINE uint64_t deposit(uint64_t v, uint64_t where)
{
#if DROP_BMI2
    return _pdep_u64(v, where);
#else
    uint64_t out = 0;
    for (; where; where &= where - 1, v >>= 1) out |= where & -where & -(v & 1);
    return out;
#endif
}

DROP_INLINE uint64_t rotate_right(uint64_t v, uint64_t n) { return v >> n % 64 | v << -n % 64; }

/* Decides the columns that equal the threshold: the r-th takes the r-th number, and there are
 * 32, which go round and round. */
DROP_INLINE void refine(const uint64_t *numbers, uint32_t low, const uint64_t *equal, uint64_t *less)
{
    const uint64_t once = below32(numbers, low), below = once | once << 32;
    uint64_t rank = 0;
    for (int w = 0; w < DROP_STRIP_WORDS; w++) {
        uint64_t kept = deposit(rotate_right(below, rank), equal[w]);
        DROP_FORGET(kept); /* GCC would put them together in vectors, piece by piece */
        less[w] |= kept;
        rank += (uint64_t)__builtin_popcountll(equal[w]);
    }
}

/* A block's elements compared with the threshold. */
typedef struct {
    /* By the first planes: below it, and equal to it, which leaves undecided. */
    _Alignas(64) uint64_t less[DROP_BLOCK_WORDS], equal[DROP_BLOCK_WORDS];
    /* By the second ones. A word more, the first one again: 64 bits start at any of 512. */
    uint64_t second[DROP_STRIP_WORDS + 1];
} drop_compared;

enum { DROP_RANGE_WORDS = DROP_STRIP_WORDS * DROP_SECOND_PLANES + DROP_REFINE_WORDS +
                          DROP_PLANES * DROP_BLOCK_WORDS };

/* Decides what the undecided will take, where there are second planes. */
DROP_INLINE void compare_columns(const drop_block *b, const uint64_t *range, drop_compared *c)
{
    const uint64_t *t = b->t + DROP_PLANES;
    _Alignas(64) uint64_t equal[DROP_STRIP_WORDS];
    if (b->second == DROP_SECOND_PLANES) /* said twice: a constant unrolls the loop */
        compare_planes(range, DROP_SECOND_PLANES, t, c->second, equal);
    else
        compare_planes(range, b->second, t, c->second, equal);
    if (b->planes_at > b->refine_at) refine(range + b->refine_at, b->last, equal, c->second);
    c->second[DROP_STRIP_WORDS] = c->second[0];
}

/* Compares the elements of the strip whose first word is word w of the block. */
DROP_INLINE void compare_strip(const drop_block *b, int planes, const uint64_t *range, uint64_t w,
                               drop_compared *c)
{
    compare_planes(range + b->planes_at + w * (uint64_t)planes, planes, b->t, c->less + w, c->equal + w);
}

DROP_INLINE void compare_strips(const drop_block *b, int planes, const uint64_t *range, uint64_t strips,
                                drop_compared *c)
{
    for (uint64_t w = 0; w < strips * DROP_STRIP_WORDS; w += DROP_STRIP_WORDS)
        compare_strip(b, planes, range, w, c);
}

/* `range` holds the block's words, as far as its first `strips` strips need them. */
DROP_INLINE void compare_block(const drop_block *b, const uint64_t *range, uint64_t strips,
                               drop_compared *c)
{
    if (b->second) compare_columns(b, range, c);
    switch (b->planes) { /* constants unroll the loops over planes */
    case 1: compare_strips(b, 1, range, strips, c); break;
    case 2: compare_strips(b, 2, range, strips, c); break;
    case 3: compare_strips(b, 3, range, strips, c); break;
    default: compare_strips(b, DROP_PLANES, range, strips, c);
    }
}

/* Word w of the block's keep bits. The words come in order: *rank counts the undecided
 * before this one, and the r-th of them takes column r of the second planes. */
DROP_INLINE uint64_t keep_word(const drop_compared *c, int has_second, uint64_t w, uint64_t *rank)
{
    if (!has_second) return c->less[w];
    const uint64_t equal = c->equal[w], undecided = (uint64_t)__builtin_popcountll(equal);
    const uint64_t at = *rank % DROP_STRIP;
    uint64_t bits;
    *rank += undecided;
    if (__builtin_expect(undecided > 57, 0)) { /* next to never: 4 on average */
        const uint64_t *from = c->second + at / 64;
        bits = from[0] >> at % 64 | from[1] << 1 << (63 - at % 64);
    } else {
        memcpy(&bits, (const char *)c->second + at / 8, sizeof bits);
        bits >>= at % 8;
    }
    return c->less[w] | deposit(bits, equal);
}

#endif
