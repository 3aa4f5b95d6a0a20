/* Windows: a mask's elements that an index picks, packed in C order, of one draw or of many. They cost what their
 * blocks cost. */
#include "drivers/arrays.h"
#include "drivers/mask.h"
#include "drivers/operation.h"
#include "kernels/bits.h"

typedef struct {
    const drop_kernels *kernels;
    const drop_samples *samples;
    const drop_arrays *window; /* array 0's strides count elements */
    uint64_t first, each, n, task_size; /* elements: of each sample, and of all */
    uint64_t *out;
} work;

/* The block of which bits were taken last: neighbours lie in it, too. */
typedef struct {
    drop_mask mask;
    uint64_t number, known; /* known: of how many elements, from its beginning on */
    uint64_t keep[DROP_BLOCK_WORDS];
} block;

/* Has a block's bits up to element `last`. Where they do not suffice, another row comes in the same block,
 * and it is made as a whole. */
static int have_block(const work *w, block *b, uint64_t number, uint64_t last)
{
    if (b->known > last && b->number == number) return 0;
    const uint64_t n = b->known && b->number == number ? DROP_BLOCK : last + 1;
    b->number = number;
    b->known = n;
    return w->kernels->block_bits(&b->mask, number, n, b->keep);
}

/* copy_bits for bits that are `step` apart. */
static void copy_steps(uint64_t *out, uint64_t to, const uint64_t *keep, uint64_t from, uint64_t step, uint64_t n)
{
    for (uint64_t take; n; n -= take, to += take) {
        uint64_t bits = 0;
        take = min_u64(n, 64 - to % 64);
        for (uint64_t i = 0; i < take; i++, from += step) bits |= (keep[from / 64] >> from % 64 & 1) << i;
        if (to % 64) out[to / 64] |= bits << to % 64;
        else out[to / 64] = bits;
    }
}

/* n elements, `step` apart, from element `at` of the mask on. */
static int copy_row(const work *w, block *b, uint64_t at, uint64_t step, uint64_t n, uint64_t to)
{
    while (n > 0) {
        const uint64_t inside = at % DROP_BLOCK;
        const uint64_t take = step ? min_u64(n, (DROP_BLOCK - 1 - inside) / step + 1) : 1;
        const int status = have_block(w, b, at / DROP_BLOCK, inside + (take - 1) * step);
        if (status) return status;
        if (step == 1) copy_bits(w->out, to, b->keep, inside, take);
        else copy_steps(w->out, to, b->keep, inside, step, take);
        at += take * step, to += take, n -= take;
    }
    return 0;
}

/* The window's elements at .. at+n-1 of one draw, to bit `to` on. */
static int copy_window(const work *w, block *b, uint64_t at, uint64_t n, uint64_t to)
{
    const drop_arrays *a = w->window;
    const uint64_t step = (uint64_t)a->stride[0][a->ndim - 1], end = to + n;
    drop_cursor c;
    cursor_at(&c, a, at);
    for (uint64_t take; to < end; to += take) {
        take = min_u64(row_left(&c, a), end - to);
        const int status = copy_row(w, b, w->first + (uint64_t)c.offset[0], step, take, to);
        if (status) return status;
        cursor_move(&c, a, 0, take);
    }
    return 0;
}

static int window_task(void *context, int64_t number)
{
    const work *w = context;
    uint64_t at = (uint64_t)number * w->task_size;
    const uint64_t end = min_u64(at + w->task_size, w->n);
    block b = {.mask = w->samples->mask};
    for (uint64_t take; at < end; at += take) {
        const uint64_t inside = at % w->each;
        take = min_u64(w->each - inside, end - at);
        b.mask.draw = w->samples->draws[at / w->each];
        b.known = 0;
        const int status = copy_window(w, &b, inside, take, at);
        if (status) return status;
    }
    return 0;
}

/* About how many elements the blocks have that a row's elements lie in; a row has at least one. */
static uint64_t elements_made(const drop_arrays *a, uint64_t n)
{
    const int last = a->ndim - 1;
    const uint64_t length = (uint64_t)a->shape[last], step = (uint64_t)a->stride[0][last];
    const uint64_t row = length * min_u64(step ? step : 1, DROP_BLOCK);
    const uint64_t above = last > 0 ? (uint64_t)a->stride[0][last - 1] : row;
    return n / length * (row > above ? row : min_u64(above, row + DROP_BLOCK));
}

int drop_window_bits(const drop_kernels *kernels, const drop_samples *samples, uint64_t first, drop_arrays *window,
                     uint64_t *out, drop_workers by)
{
    const uint64_t each = count_elements(window), n = samples->count * each;
    if (n == 0) return 0;
    join_axes(window);
    work w = {kernels, samples, window, first, each, n, 0, out};
    const uint64_t of_each = elements_made(window, each);
    const uint64_t made = samples->count * (of_each > DROP_STRIP ? of_each : DROP_STRIP); /* a strip, at least */
    const uint64_t blocks = (made + DROP_BLOCK - 1) / DROP_BLOCK;
    by = workers_for(by, made);
    /* A task's bits begin at a word of their own. */
    const uint64_t tasks = (blocks + blocks_per_task(blocks, by) - 1) / blocks_per_task(blocks, by);
    w.task_size = ((n + tasks - 1) / tasks + 63) / 64 * 64;
    return drop_parallel(by, (int64_t)((n + w.task_size - 1) / w.task_size), window_task, &w);
}
