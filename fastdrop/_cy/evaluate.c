#include "evaluate.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "bits.h"
#include "operation.h"
#include "pool.h"

enum { TASK = BLOCKS_PER_TASK * DROP_BLOCK }; /* elements */

typedef struct {
    const drop_kernels *kernels;
    const drop_operation *op;
    uint64_t size;
    int streaming;
    ptrdiff_t prefetch;
    atomic_int failure;
} work;

/* Drops axes of length 1 and joins neighbours that all arrays walk evenly. */
static void join_axes(drop_grid *g)
{
    int n = 0;
    for (int i = 0; i < g->ndim; i++) {
        if (g->shape[i] == 1) continue;
        int even = n > 0;
        for (int k = 0; k < g->arrays && even; k++)
            even = g->stride[k][n - 1] == g->shape[i] * g->stride[k][i];
        if (even) g->shape[n - 1] *= g->shape[i];
        else g->shape[n++] = g->shape[i];
        for (int k = 0; k < g->arrays; k++) g->stride[k][n - 1] = g->stride[k][i];
    }
    if (n == 0) {
        g->shape[0] = 1;
        for (int k = 0; k < g->arrays; k++) g->stride[k][0] = 0;
        n = 1;
    }
    g->ndim = n;
}

/* Where an element lies in each array of a grid. */
typedef struct {
    ptrdiff_t index[DROP_MAX_DIMS], offset[1 + DROP_INPUTS];
} cursor;

static void cursor_at(cursor *c, const drop_grid *g, uint64_t at)
{
    for (int k = 0; k < g->arrays; k++) c->offset[k] = 0;
    for (int i = g->ndim - 1; i >= 0; i--) {
        c->index[i] = (ptrdiff_t)(at % (uint64_t)g->shape[i]);
        at /= (uint64_t)g->shape[i];
        for (int k = 0; k < g->arrays; k++) c->offset[k] += c->index[i] * g->stride[k][i];
    }
}

static uint64_t row_left(const cursor *c, const drop_grid *g)
{
    return (uint64_t)(g->shape[g->ndim - 1] - c->index[g->ndim - 1]);
}

/* Moves n on, not past the end of a row, and on to the next row there. */
static void cursor_move(cursor *c, const drop_grid *g, uint64_t n)
{
    int i = g->ndim - 1;
    c->index[i] += (ptrdiff_t)n;
    for (int k = 0; k < g->arrays; k++) c->offset[k] += (ptrdiff_t)n * g->stride[k][i];
    for (; i > 0 && c->index[i] == g->shape[i]; i--) {
        for (int k = 0; k < g->arrays; k++)
            c->offset[k] += g->stride[k][i - 1] - g->shape[i] * g->stride[k][i];
        c->index[i] = 0;
        c->index[i - 1]++;
    }
}

/* The keep bits of elements at .. at+n-1, in the order of the walk. */
static int walk_bits(const work *w, uint64_t at, uint64_t n, uint64_t *out)
{
    const drop_operation *op = w->op;
    const drop_grid *g = &op->mask_grid;
    if (!op->bits) return drop_bits(w->kernels, op->mask, op->first + at, n, (uint8_t *)out, 1);
    const ptrdiff_t stride = g->stride[0][g->ndim - 1];
    cursor c;
    cursor_at(&c, g, at);
    for (uint64_t done = 0, take; done < n; done += take) {
        const uint64_t from = (uint64_t)c.offset[0];
        take = min_u64(n - done, row_left(&c, g));
        if (stride == 0) fill_bits(out, done, get_bits(op->bits, from, 1), take);
        else if (stride == 1) copy_bits(out, done, op->bits, from, take);
        else
            for (uint64_t i = 0; i < take; i++)
                fill_bits(out, done + i, get_bits(op->bits, from + i * (uint64_t)stride, 1), 1);
        cursor_move(&c, g, take);
    }
    return 0;
}

static void run_piece(const work *w, const cursor *c, uint64_t n, const uint64_t *keep)
{
    const drop_operation *op = w->op;
    const int last = op->grid.ndim - 1, inputs = op->grid.arrays - 1;
    char *y = op->y + c->offset[0];
    drop_input in[DROP_INPUTS];
    for (int k = 0; k < inputs; k++)
        in[k] = (drop_input){op->at[k] + c->offset[1 + k], op->grid.stride[1 + k][last]};
    if (op->form == DROP_SCALE)
        w->kernels->apply[op->dtype](in->at, in->stride, y, op->grid.stride[0][last], (size_t)n, keep,
                                     op->numbers.scale, w->streaming);
    else
        w->kernels->form[op->form][op->dtype](in, y, op->grid.stride[0][last], (size_t)n, keep,
                                              &op->numbers, w->streaming);
}

static void task(void *context, int64_t number)
{
    work *w = context;
    const drop_grid *g = &w->op->grid;
    const uint64_t start = (uint64_t)number * TASK, end = min_u64(start + TASK, w->size);
    cursor c;
    cursor_at(&c, g, start);
    for (uint64_t at = start, n; at < end; at += n) {
        uint64_t keep[DROP_BLOCK_WORDS], piece[DROP_BLOCK_WORDS];
        n = min_u64(DROP_BLOCK, end - at);
        if (atomic_load_explicit(&w->failure, memory_order_relaxed)) return;
        for (int k = 0; k < g->arrays - 1; k++)
            for (ptrdiff_t i = 0; i < w->prefetch; i += 64)
                __builtin_prefetch(w->op->at[k] + c.offset[1 + k] + i);
        int none = 0, status = walk_bits(w, at, n, keep);
        if (status) {
            atomic_compare_exchange_strong(&w->failure, &none, status);
            return;
        }
        for (uint64_t done = 0, take; done < n; done += take) {
            const uint64_t *bits = keep + done / 64;
            take = min_u64(n - done, row_left(&c, g));
            if (done % 64) {
                copy_bits(piece, 0, keep, done, take);
                bits = piece;
            }
            run_piece(w, &c, take, bits);
            cursor_move(&c, g, take);
        }
    }
    if (w->streaming) fence_streaming();
}

int drop_evaluate(const drop_kernels *kernels, drop_operation *op, int threads)
{
    work w = {.kernels = kernels, .op = op, .size = 1};
    for (int i = 0; i < op->grid.ndim; i++) w.size *= (uint64_t)op->grid.shape[i];
    if (w.size == 0) return 0;
    join_axes(&op->grid);
    join_axes(&op->mask_grid);
    const int uncached = is_uncached(w.size, op->dtype);
    w.streaming = uncached;
    for (int k = 0; k < op->grid.arrays - 1; k++) w.streaming &= op->at[k] != op->y;
    w.prefetch = uncached && !op->bits ? PREFETCH : 0;
    if (w.size < DROP_SERIAL_BELOW) threads = 1;
    drop_parallel(threads, (int64_t)((w.size + TASK - 1) / TASK), task, &w);
    return atomic_load(&w.failure);
}
