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

#include "kernels/apply.h"
#include "kernels/forms.h"
#include "kernels/mask_bits.h"
#include "rng/philox4x32.h"

/* The block whose elements are being written. Vectors go to aligned addresses, `head`
 * elements behind the words of the mask. */
typedef struct {
    const char *x, *u; /* u is added to what is kept; NULL: nothing is */
    char *y;
    double scale; /* for additions; products take it as their dtype does */
    ptrdiff_t prefetch; /* bytes of inputs to ask for before they are read; 0: none */
    const uint64_t *range; /* its random words */
    drop_compared *compared;
    uint64_t ready;      /* words that are compared: whole strips */
    uint64_t word, rank; /* the next word, and the undecided elements before it */
    uint64_t before;     /* the keep bits of the word before it */
    unsigned head;
} drop_writer;

/* Compares strips as they are needed: a few at a time, they hide behind the writes before. */
DROP_INLINE void make_ready(drop_writer *w, const drop_block *b, int planes, uint64_t words)
{
    for (; w->ready < words; w->ready += DROP_STRIP_WORDS)
        compare_strip(b, planes, w->range, w->ready, w->compared);
}

DROP_INLINE uint64_t next_word(drop_writer *w, int has_second)
{
    return keep_word(w->compared, has_second, w->word++, &w->rank);
}

DROP_INLINE void begin_block(drop_writer *w, const drop_block *b, int planes, int has_second,
                             const uint64_t *range)
{
    w->range = range;
    w->ready = w->word = w->rank = 0;
    if (has_second) compare_columns(b, range, w->compared);
    make_ready(w, b, planes, 1);
}

/* Asks for what will be read: between a block's other operations the processor finds too few loads
 * ahead to keep memory busy. AVX-512 has fewer of them, and gained nothing. */
DROP_INLINE void ask_ahead(const drop_writer *w, int bytes, int adds)
{
    if (DROP_VEC == 64 || !w->prefetch) return;
    for (int i = 0; i < bytes; i += 64) {
        __builtin_prefetch(w->x + w->prefetch + i);
        if (adds) __builtin_prefetch(w->u + w->prefetch + i);
    }
}

/* ADDS: 1 if there is code for adding, too. */
#define DROP_DEFINE_PIPELINE(name, SIZE, SCALE, ADDS)                                              \
    typedef void (*pipe_run_##name)(const drop_mask *, uint64_t, uint64_t, drop_writer, SCALE);    \
    DROP_INLINE void move_##name(drop_writer *w, unsigned n, int adds)                             \
    {                                                                                              \
        w->x += n * SIZE, w->y += n * SIZE;                                                        \
        if (adds) w->u += n * SIZE;                                                                \
    }                                                                                              \
    /* Fewer than 64 elements, before the first vector or behind the last one. */                  \
    DROP_INLINE void write_end_##name(drop_writer *w, unsigned n, uint64_t bits, SCALE scale, int adds) \
    {                                                                                              \
        const drop_input in[] = {{w->x, SIZE}, {w->u, SIZE}};                                      \
        const drop_numbers numbers = {.scale = w->scale};                                          \
        if (adds) add_part_##name(in, w->y, SIZE, n, &bits, &numbers);                             \
        else part_##name(w->x, SIZE, w->y, SIZE, n, &bits, scale);                                 \
        move_##name(w, n, adds);                                                                   \
    }                                                                                              \
    /* 64 elements: the last ones of a word and the first ones of the next. */                     \
    DROP_INLINE void write_##name(drop_writer *w, int has_second, SCALE scale, int adds, int stream) \
    {                                                                                              \
        const char *const in[] = {w->x, w->u};                                                     \
        const drop_numbers numbers = {.scale = w->scale};                                          \
        ask_ahead(w, 64 * SIZE, adds);                                                             \
        const uint64_t now = next_word(w, has_second);                                             \
        const uint64_t bits = w->before >> w->head | now << 1 << (63 - w->head);                   \
        w->before = now;                                                                           \
        if (adds) form_word_##name(DROP_ADD, 2, in, w->y, bits, &numbers, stream);                 \
        else word_##name(w->x, w->y, bits, scale, stream);                                         \
        move_##name(w, 64, adds);                                                                  \
    }                                                                                              \
    DROP_INLINE void write_rest_##name(drop_writer *w, const drop_block *b, int planes,            \
                                       int has_second, SCALE scale, int adds, int stream)          \
    {                                                                                              \
        make_ready(w, b, planes, DROP_BLOCK_WORDS);                                                \
        while (w->word < DROP_BLOCK_WORDS) write_##name(w, has_second, scale, adds, stream);       \
    }                                                                                              \
    /* `words`, which are a block's and tell the layout, `adds` and `stream` are constants. */     \
    DROP_INLINE void pipe_blocks_##name(const drop_mask *mask, uint64_t block, uint64_t blocks,    \
                                        drop_writer w, SCALE scale, int words, int adds, int stream) \
    {                                                                                              \
        enum { ROUNDS = DROP_PHILOX4X32_ROUNDS };                                                  \
        const int has_second = words == DROP_RANGE_WORDS;                                          \
        const int planes = has_second ? DROP_PLANES : words / DROP_BLOCK_WORDS;                    \
        /* So many that batches leave no rest, and elements have registers. */                     \
        const int side = DROP_VEC < 64 ? 2 : has_second ? 3 : 4;                                   \
        /* The block before has written a word already. */                                         \
        const int batch = side * DROP_PHILOX4X32_STEP;                                             \
        const int share = (DROP_BLOCK_WORDS - 1) / (words / batch);                                \
        /* Where a round has several writes, a loop of rounds is as good, and less code. */        \
        const int looped = share >= 3 * ROUNDS;                                                    \
        const drop_block b = block_layout(mask->threshold);                                        \
        /* A counter makes two words: an odd draw's blocks begin at the second one. */             \
        const uint64_t odd = mask->draw % 2, wanted = (uint64_t)words + odd;                       \
        _Alignas(64) uint64_t range[2][DROP_RANGE_WORDS + DROP_LANES64];                           \
        drop_compared compared;                                                                    \
        philox4x32_run run;                                                                        \
        uint64_t key[2];                                                                           \
        memcpy(key, mask->key, sizeof key);                                                        \
        philox4x32_fill(key, mask->draw + block * (uint64_t)words, (uint64_t)words, range[0]);     \
        w.compared = &compared;                                                                    \
        begin_block(&w, &b, planes, has_second, range[0]);                                         \
        w.before = next_word(&w, has_second);                                                      \
        if (w.head) write_end_##name(&w, w.head, w.before, scale, adds);                           \
        for (uint64_t i = 1; i < blocks; i++) {                                                    \
            const uint64_t position = mask->draw - odd + (block + i) * (uint64_t)words;            \
            if (i == 1 || philox4x32_left(position) > philox4x32_left(position - (uint64_t)words)) \
                run = philox4x32_start(key, position / 2); /* the counters' upper half is another */ \
            uint64_t *out = range[i % 2], low = position / 2 & 0xffffffffu;                        \
            int made = 0, end = philox4x32_left(position) < wanted ? 0 : words / batch * batch;    \
            DROP_FORGET(end); /* GCC would unroll it to more code than caches hold */              \
            for (; made < end; made += batch, low += (uint64_t)batch / 2) {                        \
                philox4x32_lanes lanes;                                                            \
                int rounds = ROUNDS;                                                               \
                if (looped) DROP_FORGET(rounds);                                                   \
                make_ready(&w, &b, planes, w.word + (uint64_t)share);                              \
                philox4x32_begin(&lanes, side, &run, low, 1);                                      \
                _Pragma("GCC unroll 8")                                                            \
                for (int r = 0; r < rounds; r++) {                                                 \
                    const int writes = looped ? share / ROUNDS                                     \
                                              : share * (r + 1) / ROUNDS - share * r / ROUNDS;     \
                    philox4x32_round(&lanes, side, &run, r);                                       \
                    _Pragma("GCC unroll 8")                                                        \
                    for (int n = 0; n < writes; n++)                                               \
                        write_##name(&w, has_second, scale, adds, stream);                         \
                }                                                                                  \
                philox4x32_end(&lanes, side, out + made);                                          \
            }                                                                                      \
            if ((uint64_t)made < wanted)                                                           \
                philox4x32_fill(key, position + (uint64_t)made, wanted - (uint64_t)made, out + made); \
            write_rest_##name(&w, &b, planes, has_second, scale, adds, stream);                    \
            begin_block(&w, &b, planes, has_second, out + odd);                                    \
            write_##name(&w, has_second, scale, adds, stream);                                     \
        }                                                                                          \
        write_rest_##name(&w, &b, planes, has_second, scale, adds, stream);                        \
        write_end_##name(&w, 64 - w.head, w.before >> w.head, scale, adds);                        \
    }                                                                                              \
    DROP_DEFINE_LAYOUT_##ADDS(name, half, SCALE, DROP_BLOCK_WORDS)                                 \
    DROP_DEFINE_LAYOUT_##ADDS(name, quarter, SCALE, 2 * DROP_BLOCK_WORDS)                          \
    DROP_DEFINE_LAYOUT_##ADDS(name, any, SCALE, DROP_RANGE_WORDS)                                  \
    /* Whole blocks of contiguous elements. Returns 0 if it did nothing, for what is               \
     * too rare to be worth the code. */                                                           \
    static int pipe_##name(const drop_mask *mask, uint64_t block, uint64_t blocks, const char *x,  \
                           const char *u, char *y, double scale, int streaming, ptrdiff_t prefetch)\
    {                                                                                              \
        drop_writer w = {.x = x, .u = u, .y = y, .scale = scale, .prefetch = prefetch,             \
                         .head = elements_before_vector(y, SIZE)};                                 \
        const int adds = u != NULL;                                                                \
        const pipe_run_##name *run;                                                                \
        if (adds > ADDS) return 0;                                                                 \
        switch (block_layout(mask->threshold).words) {                                             \
        case DROP_BLOCK_WORDS: run = half_##name[adds]; break;                                     \
        case 2 * DROP_BLOCK_WORDS: run = quarter_##name[adds]; break;                              \
        case DROP_RANGE_WORDS: run = any_##name[adds]; break;                                      \
        default: return 0;                                                                         \
        }                                                                                          \
        if ((uintptr_t)(y + w.head * SIZE) % DROP_VEC) streaming = 0;                              \
        run[streaming](mask, block, blocks, w, DROP_MAKE_##SCALE(scale, blocks * DROP_BLOCK));     \
        return 1;                                                                                  \
    }

/* A function of its own each: all layouts in one, GCC's code took 6% longer. */
#define DROP_DEFINE_LAYOUT_0(name, layout, SCALE, words)                                           \
    DROP_DEFINE_PIPES(name, layout, SCALE, words, 0)                                               \
    DROP_PIPE_TABLE(name, layout) = {DROP_PIPES(name, layout)};
#define DROP_DEFINE_LAYOUT_1(name, layout, SCALE, words)                                           \
    DROP_DEFINE_PIPES(name, layout, SCALE, words, 0)                                               \
    DROP_DEFINE_PIPES(name, layout##_added, SCALE, words, 1)                                       \
    DROP_PIPE_TABLE(name, layout) = {DROP_PIPES(name, layout), DROP_PIPES(name, layout##_added)};
#define DROP_PIPE_TABLE(name, layout) static const pipe_run_##name layout##_##name[][2]
#define DROP_PIPES(name, layout) {layout##_cached_##name, layout##_streamed_##name}
#define DROP_DEFINE_PIPES(name, layout, SCALE, words, adds)                                        \
    DROP_DEFINE_PIPE(name, layout##_cached, SCALE, words, adds, 0)                                 \
    DROP_DEFINE_PIPE(name, layout##_streamed, SCALE, words, adds, 1)
#define DROP_DEFINE_PIPE(name, layout, SCALE, words, adds, stream)                                 \
    static __attribute__((noinline)) void layout##_##name(const drop_mask *mask, uint64_t block,   \
                                                          uint64_t blocks, drop_writer w, SCALE scale) \
    {                                                                                              \
        pipe_blocks_##name(mask, block, blocks, w, scale, words, adds, stream);                    \
    }

DROP_DEFINE_PIPELINE(f16, 2, float, 0)
DROP_DEFINE_PIPELINE(bf16, 2, bf16_scale, 0)
DROP_DEFINE_PIPELINE(f32, 4, float, 1)
DROP_DEFINE_PIPELINE(f64, 8, double, 0)
DROP_DEFINE_PIPELINE(c64, 8, float, 0)
DROP_DEFINE_PIPELINE(c128, 16, double, 0)

#endif
