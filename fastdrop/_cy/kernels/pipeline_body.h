/* The pipeline of one dtype, for the generator whose name is GENERATOR (rng/pairs_body.h). */

typedef void (*T(pipe_run))(const drop_mask *, uint64_t, uint64_t, drop_writer, T(scale));

static void T(add_part)(const drop_input *in, char *y, size_t n, const uint64_t *keep, const drop_numbers *numbers)
{
    T(form_part)(DROP_ADD, 2, in, y, DTYPE_BYTES, n, keep, numbers);
}

DROP_INLINE void T(move)(drop_writer *w, unsigned n, int adds)
{
    w->x += n * DTYPE_BYTES, w->y += n * DTYPE_BYTES;
    if (adds) w->u += n * DTYPE_BYTES;
}

/* Fewer than 64 elements, before the first vector or behind the last one. */
DROP_INLINE void T(write_end)(drop_writer *w, unsigned n, uint64_t bits, T(scale) scale, int adds)
{
    enum { SIZE = DTYPE_BYTES };
    const drop_input in[] = {{w->x, SIZE}, {w->u, SIZE}};
    const drop_numbers numbers = {.scale = w->scale};
    if (adds) T(add_part)(in, w->y, n, &bits, &numbers);
    else T(part)(w->x, SIZE, w->y, SIZE, n, &bits, scale);
    T(move)(w, n, adds);
}

/* 64 elements: the last ones of a word and the first ones of the next. */
DROP_INLINE void T(write)(drop_writer *w, int has_second, T(scale) scale, int adds, int stream)
{
    const char *const in[] = {w->x, w->u};
    const drop_numbers numbers = {.scale = w->scale};
    ask_ahead(w, 64 * DTYPE_BYTES, adds);
    const uint64_t now = next_word(w, has_second);
    const uint64_t bits = w->before >> w->head | now << 1 << (63 - w->head);
    w->before = now;
    if (adds) T(form_word)(DROP_ADD, 2, in, w->y, bits, &numbers, stream);
    else T(word)(w->x, w->y, bits, scale, stream);
    T(move)(w, 64, adds);
}

DROP_INLINE void T(write_rest)(drop_writer *w, const drop_block *b, int planes, int has_second, T(scale) scale,
                               int adds, int stream)
{
    make_ready(w, b, planes, DROP_BLOCK_WORDS);
    while (w->word < DROP_BLOCK_WORDS) T(write)(w, has_second, scale, adds, stream);
}

/* A round of the next block's words, and elements behind it. */
DROP_INLINE void T(round_and_write)(drop_writer *w, G(lanes) *lanes, int side, const G(run) *run, int r,
                          int writes, int has_second, T(scale) scale, int adds, int stream)
{
    G(round)(lanes, side, run, r);
#pragma GCC unroll 8
    for (int n = 0; n < writes; n++) T(write)(w, has_second, scale, adds, stream);
}

/* The next block's words, and behind them as many elements of this block as can be shared out evenly. `next`
 * is where its words begin, at an even position, and `wanted` how many they are. */
DROP_INLINE void T(make_and_write)(drop_writer *w, const drop_block *b, int planes, int words, const void *key,
                                   const G(run) *run, uint64_t next, uint64_t wanted, uint64_t *out,
                                   T(scale) scale, int adds, int stream)
{
    enum { ROUNDS = G(rounds) };
    const int has_second = words == DROP_RANGE_WORDS;
    const int side = has_second ? G(side_of_all) : G(side_of_few);
    /* The block before has written a word already. */
    const int batch = side * G(step);
    const int share = (DROP_BLOCK_WORDS - 1) / (words / batch);
    /* Where a round has several writes, a loop of rounds is as good, and less code. */
    const int looped = share >= 3 * ROUNDS;
    uint64_t counter = next / 2;
    int made = 0, end = G(left)(next) < wanted ? 0 : words / batch * batch;
    DROP_FORGET(end); /* GCC would unroll it to more code than caches hold */
    for (; made < end; made += batch, counter += (uint64_t)batch / 2) {
        G(lanes) lanes;
        make_ready(w, b, planes, w->word + (uint64_t)share);
        G(begin)(&lanes, side, run, counter, 1);
        if (looped) {
            int rounds = ROUNDS;
            DROP_FORGET(rounds); /* or it would be unrolled */
            for (int r = 0; r < rounds; r++)
                T(round_and_write)(w, &lanes, side, run, r, share / ROUNDS, has_second, scale, adds, stream);
        } else {
#pragma GCC unroll 16
            for (int r = 0; r < ROUNDS; r++) {
                const int writes = share * (r + 1) / ROUNDS - share * r / ROUNDS;
                T(round_and_write)(w, &lanes, side, run, r, writes, has_second, scale, adds, stream);
            }
        }
        G(end)(&lanes, side, run, out + made);
    }
    if ((uint64_t)made < wanted)
        G(fill)(key, next + (uint64_t)made, wanted - (uint64_t)made, out + made);
}

/* `words`, which are a block's and tell the layout, `adds` and `stream` are constants. */
DROP_INLINE void T(pipe_blocks)(const drop_mask *mask, uint64_t block, uint64_t blocks, drop_writer w,
                                T(scale) scale, int words, int adds, int stream)
{
    const int has_second = words == DROP_RANGE_WORDS;
    const int planes = has_second ? DROP_PLANES : words / DROP_BLOCK_WORDS;
    const drop_block b = block_layout(mask->threshold);
    /* A counter makes two words: an odd draw's blocks begin at the second one. */
    const uint64_t odd = mask->draw % 2, wanted = (uint64_t)words + odd;
    _Alignas(64) uint64_t range[2][DROP_RANGE_WORDS + DROP_LANES64];
    drop_compared compared;
    G(run) run;
    const void *const key = mask->key;
    G(fill)(key, mask->draw + block * (uint64_t)words, (uint64_t)words, range[0]);
    w.compared = &compared;
    begin_block(&w, &b, planes, has_second, range[0]);
    w.before = next_word(&w, has_second);
    if (w.head) T(write_end)(&w, w.head, w.before, scale, adds);
    for (uint64_t i = 1;; i++) {
        uint64_t *const out = range[i % 2];
        if (i < blocks) {
            const uint64_t next = mask->draw - odd + (block + i) * (uint64_t)words;
            if (i == 1 || G(left)(next) > G(left)(next - (uint64_t)words))
                run = G(start)(key, next / 2); /* the counters' upper half is another */
            T(make_and_write)(&w, &b, planes, words, key, &run, next, wanted, out, scale, adds, stream);
        }
        T(write_rest)(&w, &b, planes, has_second, scale, adds, stream);
        if (i >= blocks) break;
        begin_block(&w, &b, planes, has_second, out + odd);
        T(write)(&w, has_second, scale, adds, stream);
    }
    T(write_end)(&w, 64 - w.head, w.before >> w.head, scale, adds);
}

#define LAYOUT half
#define LAYOUT_WORDS DROP_BLOCK_WORDS
#include "kernels/pipeline_layout_body.h"
#define LAYOUT quarter
#define LAYOUT_WORDS 2 * DROP_BLOCK_WORDS
#include "kernels/pipeline_layout_body.h"
#define LAYOUT any
#define LAYOUT_WORDS DROP_RANGE_WORDS
#include "kernels/pipeline_layout_body.h"

/* Whole blocks of contiguous elements. Returns 0 if it did nothing, for what is
 * too rare to be worth the code. */
static int T(pipe)(const drop_mask *mask, uint64_t block, uint64_t blocks, const char *x, const char *u,
                   char *y, double scale, int streaming, ptrdiff_t prefetch)
{
    drop_writer w = {.x = x, .u = u, .y = y, .scale = scale, .prefetch = prefetch,
                     .head = elements_before_vector(y, DTYPE_BYTES)};
    const int adds = u != NULL;
    const T(pipe_run) *run;
    if (adds > DTYPE_ADDS) return 0;
    switch (block_layout(mask->threshold).words) {
    case DROP_BLOCK_WORDS: run = T(half)[adds]; break;
    case 2 * DROP_BLOCK_WORDS: run = T(quarter)[adds]; break;
    case DROP_RANGE_WORDS: run = T(any)[adds]; break;
    default: return 0;
    }
    if ((uintptr_t)(y + w.head * DTYPE_BYTES) % DROP_VEC) streaming = 0;
    run[streaming](mask, block, blocks, w, T(scale_for)(scale, blocks * DROP_BLOCK));
    return 1;
}
