/* The fast way through contiguous arrays, for the generator whose name is GENERATOR (rng/pairs_body.h).
 *
 * Making random words keeps the vector units busy, and moving elements the memory. One
 * after the other they add up: the processor looks ahead some hundred operations, and a
 * block takes thousands. So the next block's words are made round by round, and
 * behind each round some of this block's elements are written. How many is fixed when
 * this is compiled: loops whose ends are mispredicted would undo the overlap.
 */
#ifndef DROP_PIPELINE_H
#define DROP_PIPELINE_H

#include "kernels/forms.h"
#include "kernels/mask_bits.h"
#include "kernels/parts.h"
#include "rng/pairs.h"

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

#define DTYPE_BODY "kernels/pipeline_body.h"
#include "kernels/dtypes.def"

#define DROP_PIPES DROP_JOIN(G(pipes_), DROP_ISA)
extern const drop_pipe_run DROP_PIPES[];

const drop_pipe_run DROP_PIPES[] = {
#define DTYPE_EACH(name, ...) pipe_##name,
#include "kernels/dtypes.def"
};

#endif
