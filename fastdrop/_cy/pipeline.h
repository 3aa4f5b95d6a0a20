/* The fast way through contiguous arrays under the default generator.
 *
 * Making random words keeps the vector units busy, and moving elements the memory. One
 * after the other they add up: the processor looks ahead some hundred operations, and a
 * block takes thousands. So the next block's words are made round by round, and
 * behind each round some of this block's elements are written. How many is fixed when
 * this is compiled: loops whose ends are mispredicted would undo the overlap.
 */
#ifndef DROP_PIPELINE_H
#define DROP_PIPELINE_H

#include "apply.h"
#include "mask_bits.h"
#include "philox4x32.h"

/* The block whose elements are being written. Vectors go to aligned addresses, `head`
 * elements behind the words of the mask. */
typedef struct {
    const char *x;
    char *y;
    const drop_compared *c;
    uint64_t word, rank; /* the next word, and the undecided elements before it */
    uint64_t before;     /* the keep bits of the word before it */
    unsigned head;
} drop_writer;

#define DROP_DEFINE_PIPELINE(name, SIZE, SCALE)                                                    \
    /* 64 elements: the last ones of a word and the first ones of the next. */                     \
    DROP_INLINE void write_##name(drop_writer *w, int has_second, SCALE scale, int stream)         \
    {                                                                                              \
        const uint64_t now = keep_word(w->c, has_second, w->word++, &w->rank);                     \
        const uint64_t bits = w->before >> w->head | now << 1 << (63 - w->head);                   \
        w->before = now;                                                                           \
        word_##name(w->x, w->y, bits, scale, stream);                                              \
        w->x += 64 * SIZE, w->y += 64 * SIZE;                                                      \
    }                                                                                              \
    /* `words`, which are a block's, `has_second` and `stream` are constants. */                   \
    DROP_INLINE void pipe_blocks_##name(const drop_mask *mask, uint64_t block, uint64_t blocks,    \
                                        drop_writer w, int words, int has_second, SCALE scale,     \
                                        int stream)                                                \
    {                                                                                              \
        enum { SIDE = DROP_PHILOX4X32_SIDE, WIDE = DROP_PHILOX4X32_WIDE, ROUNDS = DROP_PHILOX4X32_ROUNDS };\
        /* The first block has written a word already. */                                          \
        const int batches = words / WIDE, share = (DROP_BLOCK_WORDS - 1) / batches;                \
        const drop_block b = block_layout(mask->threshold);                                        \
        /* A counter makes two words: an odd draw's blocks begin at the second one. */             \
        const uint64_t odd = mask->draw % 2, wanted = (uint64_t)words + odd;                       \
        _Alignas(64) uint64_t range[DROP_RANGE_WORDS + 1];                                         \
        drop_compared compared[2];                                                                 \
        uint64_t key[2], bits;                                                                     \
        memcpy(key, mask->key, sizeof key);                                                        \
        philox4x32_fill(key, mask->draw + block * (uint64_t)words, (uint64_t)words, range);        \
        compare_block(mask, &b, range, DROP_BLOCK / DROP_STRIP, &compared[0]);                     \
        w.c = &compared[0];                                                                        \
        bits = w.before = keep_word(w.c, has_second, w.word++, &w.rank);                           \
        if (w.head) part_##name(w.x, SIZE, w.y, SIZE, w.head, &bits, scale);                       \
        w.x += w.head * SIZE, w.y += w.head * SIZE;                                                \
        for (uint64_t i = 1; i < blocks; i++) {                                                    \
            const uint64_t position = mask->draw - odd + (block + i) * (uint64_t)words;            \
            const philox4x32_run run = philox4x32_start(key, position / 2);                        \
            uint64_t low = position / 2 & 0xffffffffu;                                             \
            uint64_t made = 0;                                                                     \
            if (philox4x32_left(position) >= wanted)                                               \
                for (int k = 0; k < batches; k++, low += WIDE / 2, made += WIDE) {                 \
                    philox4x32_lanes lanes;                                                        \
                    philox4x32_begin(&lanes, SIDE, &run, low);                                     \
                    _Pragma("GCC unroll 8")                                                        \
                    for (int r = 0; r < ROUNDS; r++) {                                             \
                        philox4x32_round(&lanes, SIDE, &run, r);                                   \
                        _Pragma("GCC unroll 8")                                                    \
                        for (int n = share * r / ROUNDS; n < share * (r + 1) / ROUNDS; n++)        \
                            write_##name(&w, has_second, scale, stream);                                   \
                    }                                                                              \
                    philox4x32_end(&lanes, SIDE, range + made);                                    \
                }                                                                                  \
            if (made < wanted) philox4x32_fill(key, position + made, wanted - made, range + made); \
            while (w.word < DROP_BLOCK_WORDS) write_##name(&w, has_second, scale, stream);                 \
            w.c = &compared[i % 2];                                                                \
            w.word = w.rank = 0;                                                                   \
            compare_block(mask, &b, range + odd, DROP_BLOCK / DROP_STRIP, &compared[i % 2]);           \
        }                                                                                          \
        while (w.word < DROP_BLOCK_WORDS) write_##name(&w, has_second, scale, stream);                     \
        bits = w.before >> w.head;                                                                 \
        part_##name(w.x, SIZE, w.y, SIZE, 64 - w.head, &bits, scale);                              \
    }                                                                                              \
    /* Whole blocks of contiguous elements. Returns 0 if it did nothing, for thresholds            \
     * that are too rare to be worth the code. */                                                  \
    static int pipe_##name(const drop_mask *mask, uint64_t block, uint64_t blocks, const char *x,  \
                           char *y, double double_scale, int streaming)                            \
    {                                                                                              \
        enum { HALF = DROP_BLOCK_WORDS, QUARTER = 2 * DROP_BLOCK_WORDS, ANY = DROP_RANGE_WORDS };  \
        const SCALE scale = (SCALE)double_scale;                                                   \
        drop_writer w = {.x = x, .y = y, .head = elements_before_vector(y, SIZE)};                 \
        if ((uintptr_t)(y + w.head * SIZE) % DROP_VEC) streaming = 0;                              \
        switch (block_layout(mask->threshold).words) {                                             \
        case HALF:                                                                                 \
            if (streaming) pipe_blocks_##name(mask, block, blocks, w, HALF, 0, scale, 1);          \
            else pipe_blocks_##name(mask, block, blocks, w, HALF, 0, scale, 0);                    \
            return 1;                                                                              \
        case QUARTER:                                                                              \
            if (streaming) pipe_blocks_##name(mask, block, blocks, w, QUARTER, 0, scale, 1);       \
            else pipe_blocks_##name(mask, block, blocks, w, QUARTER, 0, scale, 0);                 \
            return 1;                                                                              \
        case ANY:                                                                                  \
            if (streaming) pipe_blocks_##name(mask, block, blocks, w, ANY, 1, scale, 1);           \
            else pipe_blocks_##name(mask, block, blocks, w, ANY, 1, scale, 0);                     \
            return 1;                                                                              \
        default: return 0;                                                                         \
        }                                                                                          \
    }

DROP_DEFINE_PIPELINE(f16, 2, float)
DROP_DEFINE_PIPELINE(bf16, 2, float)
DROP_DEFINE_PIPELINE(f32, 4, float)
DROP_DEFINE_PIPELINE(f64, 8, double)
DROP_DEFINE_PIPELINE(c64, 8, float)
DROP_DEFINE_PIPELINE(c128, 16, double)

#endif
