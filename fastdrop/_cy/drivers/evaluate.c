#include "drivers/evaluate.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bits.h"
#include "drivers/operation.h"
#include "runtime/pool.h"

enum { /* elements */
    PIECE = BLOCKS_PER_TASK * DROP_BLOCK, /* under a shared mask, whose bits cost little: a piece has ends, and they cost more */
    LONG_ROW = 4096,
};

typedef struct {
    const drop_kernels *kernels;
    const drop_operation *op;
    uint64_t size, task_size; /* elements */
    drop_pipe_run pipe;       /* for whole blocks of contiguous arrays, or NULL */
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

/* `spread_bits` for rows shorter than a word. Where in words they end nothing can predict, so there is
 * no branch. */
static void spread_short(uint64_t *out, uint64_t to, const uint64_t *bits, uint64_t from,
                         ptrdiff_t step, uint64_t rows, uint64_t length)
{
    const uint64_t ones = ~(uint64_t)0 >> (64 - length);
    uint64_t word = to % 64 ? out[to / 64] : 0;
    for (; rows; rows--, from += (uint64_t)step, to += length) {
        const uint64_t fill = -(bits[from / 64] >> from % 64 & 1) & ones, at = to % 64;
        word |= fill << at;
        out[to / 64] = word;
        word = at + length < 64 ? word : fill >> 1 >> (63 - at);
    }
    if (to % 64) out[to / 64] = word;
}

/* Rows of one bit each: `rows` of them, `length` elements long, `step` bits apart. */
static void spread_bits(uint64_t *out, uint64_t to, const uint64_t *bits, uint64_t from,
                        ptrdiff_t step, uint64_t rows, uint64_t length)
{
    if (length < 64) {
        spread_short(out, to, bits, from, step, rows, length);
        return;
    }
    uint64_t word = to % 64 ? out[to / 64] : 0;
    for (; rows; rows--, from += (uint64_t)step) {
        const uint64_t fill = -(bits[from / 64] >> from % 64 & 1), room = 64 - to % 64;
        uint64_t left = length;
        out[to / 64] = word | fill << to % 64;
        for (to += room, left -= room; left >= 64; to += 64, left -= 64) out[to / 64] = fill;
        word = left ? fill >> (64 - left) : 0;
        to += left;
    }
    if (to % 64) out[to / 64] = word;
}

/* Elements that follow each other along the last axis, or along the last two of them. */
static uint64_t slab_left(const cursor *c, const drop_grid *g)
{
    const int i = g->ndim - 1;
    if (i == 0) return row_left(c, g);
    return (uint64_t)((g->shape[i - 1] - c->index[i - 1]) * g->shape[i] - c->index[i]);
}

/* The keep bits of elements at .. at+n-1 of a mask that is shared, in the order of the walk. */
static void shared_bits(const drop_operation *op, uint64_t at, uint64_t n, uint64_t *out)
{
    const drop_grid *g = &op->mask_grid;
    const int last = g->ndim - 1;
    const ptrdiff_t stride = g->stride[0][last];
    const uint64_t length = (uint64_t)g->shape[last];
    const int repeats = last > 0 && g->stride[0][last - 1] == 0;
    cursor c;
    cursor_at(&c, g, at);
    for (uint64_t done = 0, take; done < n; done += take) {
        const uint64_t from = (uint64_t)c.offset[0], row = row_left(&c, g);
        take = min_u64(n - done, row);
        if (stride == 1 && repeats && slab_left(&c, g) > length) {
            /* One row after the other is the same: from any element on, its length long. */
            const uint64_t all = min_u64(n - done, slab_left(&c, g));
            copy_bits(out, done, op->bits, from, take);
            if (take < all) {
                const uint64_t wrapped = min_u64(all - take, length - take);
                copy_bits(out, done + take, op->bits, from + take - length, wrapped);
                take += wrapped;
            }
            for (uint64_t more; take < all; take += more) {
                more = min_u64(all - take, take);
                copy_bits(out, done + take, out, done, more);
            }
        } else if (stride == 1) copy_bits(out, done, op->bits, from, take);
        else if (stride == 0 && last > 0 && c.index[last] == 0 && n - done >= 2 * length) {
            const uint64_t rows = min_u64((n - done) / length,
                                          (uint64_t)(g->shape[last - 1] - c.index[last - 1]));
            spread_bits(out, done, op->bits, from, g->stride[0][last - 1], rows, length);
            take = rows * length;
        } else spread_bits(out, done, op->bits, from, stride, stride ? take : 1, stride ? 1 : take);
        if (take <= row) cursor_move(&c, g, take);
        else if (done + take < n) cursor_at(&c, g, at + done + take);
    }
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

/* n elements, whose bits begin at the start of `keep`. */
static void run_pieces(const work *w, cursor *c, uint64_t n, const uint64_t *keep)
{
    const drop_grid *g = &w->op->grid;
    uint64_t piece[PIECE / 64];
    for (uint64_t done = 0, take; done < n; done += take) {
        const uint64_t *bits = keep + done / 64;
        take = min_u64(n - done, row_left(c, g));
        if (done % 64) {
            copy_bits(piece, 0, keep, done, take);
            bits = piece;
        }
        run_piece(w, c, take, bits);
        cursor_move(c, g, take);
    }
}

/* Long rows that share a bit need no bits: what is dropped is not even read. */
static void uniform_rows(const work *w, cursor *c, uint64_t at, uint64_t end)
{
    static const uint64_t kept[PIECE / 64] = {[0 ... PIECE / 64 - 1] = ~(uint64_t)0};
    static const uint64_t dropped[PIECE / 64];
    const drop_operation *op = w->op;
    const drop_grid *g = &op->mask_grid;
    const ptrdiff_t size = drop_item_size(op->dtype);
    const int is_zero = op->form == DROP_SCALE && op->grid.stride[0][op->grid.ndim - 1] == size;
    cursor m;
    cursor_at(&m, g, at);
    while (at < end) {
        const uint64_t bit = get_bits(op->bits, (uint64_t)m.offset[0], 1);
        const uint64_t most = min_u64(row_left(c, &op->grid), end - at);
        uint64_t n = 0;
        while (n < most && get_bits(op->bits, (uint64_t)m.offset[0], 1) == bit) {
            const uint64_t take = min_u64(most - n, row_left(&m, g));
            cursor_move(&m, g, take);
            n += take;
        }
        at += n;
        if (!bit && is_zero) {
            memset(op->y + c->offset[0], 0, n * (uint64_t)size);
            cursor_move(c, &op->grid, n);
            continue;
        }
        for (uint64_t take; n; n -= take) {
            take = min_u64(n, PIECE);
            run_piece(w, c, take, bit ? kept : dropped);
            cursor_move(c, &op->grid, take);
        }
    }
}

/* Elements that were written together with the making of their bits: whole blocks of them, or none. */
static uint64_t pipe_blocks(const work *w, cursor *c, uint64_t start, uint64_t end)
{
    const drop_operation *op = w->op;
    const uint64_t block = (op->first + start) / DROP_BLOCK, blocks = (end - start) / DROP_BLOCK;
    if (!w->pipe || blocks < 2 ||
        !w->pipe(op->mask, block, blocks, op->at[0] + c->offset[1], op->at[1] + c->offset[2],
                 op->y + c->offset[0], op->numbers.scale, w->streaming, w->prefetch))
        return 0;
    cursor_move(c, &op->grid, blocks * DROP_BLOCK);
    return blocks * DROP_BLOCK;
}

static void task(void *context, int64_t number)
{
    work *w = context;
    const drop_operation *op = w->op;
    const drop_grid *g = &op->grid, *m = &op->mask_grid;
    const uint64_t start = (uint64_t)number * w->task_size, end = min_u64(start + w->task_size, w->size);
    uint64_t keep[PIECE / 64];
    cursor c;
    cursor_at(&c, g, start);
    if (op->bits && m->stride[0][m->ndim - 1] == 0 && m->shape[m->ndim - 1] >= LONG_ROW)
        uniform_rows(w, &c, start, end);
    else if (op->bits)
        for (uint64_t at = start, n; at < end; at += n) {
            n = min_u64(PIECE, end - at);
            shared_bits(op, at, n, keep);
            run_pieces(w, &c, n, keep);
        }
    else
        for (uint64_t at = start + pipe_blocks(w, &c, start, end), n; at < end; at += n) {
            n = min_u64(DROP_BLOCK, end - at);
            if (atomic_load_explicit(&w->failure, memory_order_relaxed)) return;
            for (int k = 0; k < g->arrays - 1; k++)
                for (ptrdiff_t i = 0; i < w->prefetch; i += 64)
                    __builtin_prefetch(op->at[k] + c.offset[1 + k] + i);
            int none = 0;
            const int status = drop_bits(w->kernels, op->mask, op->first + at, n, (uint8_t *)keep, 1);
            if (status) {
                atomic_compare_exchange_strong(&w->failure, &none, status);
                return;
            }
            run_pieces(w, &c, n, keep);
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
    const int uncached = is_uncached(op->grid.arrays, w.size, op->dtype);
    w.streaming = uncached;
    for (int k = 0; k < op->grid.arrays - 1; k++) w.streaming &= op->at[k] != op->y;
    w.prefetch = uncached && !op->bits ? PREFETCH : 0;
    if (w.size < DROP_SERIAL_BELOW) threads = 1;
    const ptrdiff_t item = drop_item_size(op->dtype);
    int even = op->grid.ndim == 1; /* all arrays lie side by side */
    for (int k = 0; k < op->grid.arrays; k++) even &= op->grid.stride[k][0] == item;
    if (op->form == DROP_ADD && !op->bits && even)
        w.pipe = find_pipe(kernels, op->mask, op->first, op->dtype);
    w.task_size = DROP_BLOCK * blocks_per_task((w.size + DROP_BLOCK - 1) / DROP_BLOCK, threads);
    drop_parallel(threads, (int64_t)((w.size + w.task_size - 1) / w.task_size), task, &w);
    return atomic_load(&w.failure);
}
