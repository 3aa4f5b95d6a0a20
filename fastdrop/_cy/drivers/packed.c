/* Masks that are given as packed bits: those that elements share, which are small, and masks from elsewhere. */
#include <string.h>

#include "drivers/work.h"

enum { LONG_ROW = 4096 }; /* elements */

typedef struct {
    drop_work all;
    drop_arrays mask; /* the bits as an array of their own, with strides in bits */
} bits_work;

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
static uint64_t slab_left(const drop_cursor *c, const drop_arrays *m)
{
    const int i = m->ndim - 1;
    if (i == 0) return row_left(c, m);
    return (uint64_t)((m->shape[i - 1] - c->index[i - 1]) * m->shape[i] - c->index[i]);
}

/* The keep bits of elements at .. at+n-1, in the order of the walk. */
static void walk_bits(const bits_work *b, uint64_t at, uint64_t n, uint64_t *out)
{
    const drop_arrays *m = &b->mask;
    const uint64_t *bits = b->all.op->bits;
    const int last = m->ndim - 1;
    const ptrdiff_t stride = m->stride[0][last], above = last > 0 ? m->stride[0][last - 1] : 1;
    const uint64_t length = (uint64_t)m->shape[last];
    drop_cursor c;
    cursor_at(&c, m, at);
    for (uint64_t done = 0, take; done < n; done += take) {
        const uint64_t from = (uint64_t)c.offset[0], row = row_left(&c, m);
        take = min_u64(n - done, row);
        if (stride == 1 && above == 0 && slab_left(&c, m) > length) {
            /* One row after the other is the same: from any element on, its length long. */
            const uint64_t all = min_u64(n - done, slab_left(&c, m));
            copy_bits(out, done, bits, from, take);
            if (take < all) {
                const uint64_t wrapped = min_u64(all - take, length - take);
                copy_bits(out, done + take, bits, from + take - length, wrapped);
                take += wrapped;
            }
            for (uint64_t more; take < all; take += more) {
                more = min_u64(all - take, take);
                copy_bits(out, done + take, out, done, more);
            }
        } else if (stride == 1) copy_bits(out, done, bits, from, take);
        else if (stride == 0 && last > 0 && c.index[last] == 0 && n - done >= 2 * length) {
            const uint64_t rows = min_u64((n - done) / length, (uint64_t)(m->shape[last - 1] - c.index[last - 1]));
            spread_bits(out, done, bits, from, above, rows, length);
            take = rows * length;
        } else spread_bits(out, done, bits, from, stride, stride ? take : 1, stride ? 1 : take);
        if (take <= row) cursor_move(&c, m, 0, take);
        else if (done + take < n) cursor_at(&c, m, at + done + take);
    }
}

/* Long rows that share a bit need no bits: what is dropped is not even read. */
static void run_long_rows(const bits_work *b, drop_cursor *c, uint64_t at, uint64_t end)
{
    static const uint64_t kept[PIECE / 64] = {[0 ... PIECE / 64 - 1] = ~(uint64_t)0};
    static const uint64_t dropped[PIECE / 64];
    const drop_work *w = &b->all;
    const drop_operation *op = w->op;
    const drop_arrays *a = &op->arrays, *m = &b->mask;
    const ptrdiff_t size = drop_item_size(a->dtype);
    const int is_zero = op->form == DROP_SCALE && a->stride[0][w->axis] == size;
    drop_cursor in_mask;
    cursor_at(&in_mask, m, at);
    while (at < end) {
        const uint64_t bit = get_bits(op->bits, (uint64_t)in_mask.offset[0], 1);
        const uint64_t most = min_u64(row_left(c, a), end - at);
        uint64_t n = 0;
        while (n < most && get_bits(op->bits, (uint64_t)in_mask.offset[0], 1) == bit) {
            const uint64_t take = min_u64(most - n, row_left(&in_mask, m));
            cursor_move(&in_mask, m, 0, take);
            n += take;
        }
        at += n;
        if (!bit && is_zero) {
            memset(array_at(a, c, 0), 0, n * (uint64_t)size);
            cursor_move(c, a, 0, n);
            continue;
        }
        for (uint64_t take; n; n -= take) {
            take = min_u64(n, PIECE);
            run_piece(w, c, take, bit ? kept : dropped);
            cursor_move(c, a, 0, take);
        }
    }
}

static int bits_task(void *context, int64_t number)
{
    const bits_work *b = context;
    const drop_arrays *m = &b->mask;
    const uint64_t size = b->all.task_blocks * DROP_BLOCK, start = (uint64_t)number * size;
    const uint64_t end = min_u64(start + size, b->all.size);
    uint64_t keep[PIECE / 64];
    drop_cursor c;
    cursor_at(&c, &b->all.op->arrays, start);
    if (m->stride[0][m->ndim - 1] == 0 && m->shape[m->ndim - 1] >= LONG_ROW)
        run_long_rows(b, &c, start, end);
    else
        /* Bits cost little here. A piece has ends, and they cost more. */
        for (uint64_t at = start, n; at < end; at += n) {
            n = min_u64(PIECE, end - at);
            walk_bits(b, at, n, keep);
            run_pieces(&b->all, &c, keep, 0, n);
        }
    if (b->all.streaming) fence_streaming();
    return 0;
}

static void swap(ptrdiff_t *a, ptrdiff_t *b)
{
    const ptrdiff_t was = *a;
    *a = *b;
    *b = was;
}

static void swap_axes(drop_arrays *a, int i, int j)
{
    swap(&a->shape[i], &a->shape[j]);
    for (int k = 0; k < a->count; k++) swap(&a->stride[k][i], &a->stride[k][j]);
}

int drop_by_bits(drop_work *work, drop_workers by)
{
    bits_work b;
    drop_arrays *a = &work->op->arrays, *m = &b.mask;
    b.all = *work;
    m->ndim = a->ndim;
    m->count = 1;
    for (int i = 0; i < a->ndim; i++) {
        m->shape[i] = a->shape[i];
        m->stride[0][i] = work->op->bit_stride[i];
    }
    /* The arrays are walked in memory's order, whatever the mask's is: it is small, and near. */
    for (int i = 1; i < a->ndim; i++)
        for (int j = i; j > 0 && step_along(a, j - 1) < step_along(a, j); j--) {
            swap_axes(a, j - 1, j);
            swap_axes(m, j - 1, j);
        }
    join_axes(a);
    join_axes(m);
    b.all.axis = a->ndim - 1;
    const uint64_t blocks = (b.all.size + DROP_BLOCK - 1) / DROP_BLOCK;
    b.all.task_blocks = blocks_per_task(blocks, by);
    return drop_parallel(by, (int64_t)((blocks + b.all.task_blocks - 1) / b.all.task_blocks), bits_task, &b);
}
