/* Rows are taken in groups that the first-level cache holds, and a task is some groups whose mask is made at once. */
#include "drivers/softmax.h"

#include <string.h>

#include "drivers/mask.h"
#include "drivers/operation.h"
#include "drivers/scratch.h"

enum {
    TASK = 1 << 16, /* elements, if a row has no more */
    GROUP = 4096,
    GROUP_ROWS = 64,
    COST = 8, /* of an element: as much time as so many under a mask take */
};

typedef struct {
    const drop_kernels *kernels;
    const drop_softmax *s;
    const drop_softmax_runs *runs;
    size_t number; /* bytes of a number */
    uint64_t task_rows, group_rows;
    size_t bits_bytes; /* of a thread's scratch memory: what follows are a group's numbers */
    drop_scratch scratch;
    char *x, *y, *grad; /* y for the forward pass, grad for the other */
    char *lse;
    const char *delta;
} work;

/* Numbers of each row of a group, in either precision. */
typedef union {
    float single[GROUP_ROWS];
    double twice[GROUP_ROWS];
} row_numbers;

typedef struct {
    row_numbers highest, total, change, factor, lse, delta;
} group_numbers;

/* How many rows from r on are a group: they belong to one matrix, and their biases follow one another. */
static uint64_t group_from(const work *w, uint64_t r, uint64_t end)
{
    const drop_softmax *s = w->s;
    uint64_t n = min_u64(w->group_rows, end - r);
    if (s->causal) n = min_u64(n, s->causal - (s->row + r) % s->causal);
    if (s->bias && s->bias_rows > 1) n = min_u64(n, s->bias_rows - r % s->bias_rows);
    return n;
}

static drop_tile tile_of(const work *w, uint64_t r, uint64_t n, const uint64_t *bits, uint64_t bit)
{
    const drop_softmax *s = w->s;
    drop_tile t = {
        .rows = n, .columns = s->columns, .pitch = s->columns, .scale = s->scale, .keep_scale = s->keep_scale,
        .limit = s->causal ? (ptrdiff_t)((s->row + r) % s->causal + 1) : (ptrdiff_t)s->columns,
        .keep = bits, .bit = bit, .bit_pitch = s->width,
    };
    if (s->bias) {
        t.bias = (const char *)s->bias + r % s->bias_rows * s->columns * w->number;
        t.bias_pitch = s->bias_rows > 1 ? s->columns : 0;
    }
    return t;
}

/* y: the exponentials, dropped ones 0. */
static void start_rows(const work *w, const drop_tile *t, const char *x, char *y, group_numbers *n)
{
    w->runs->start(t->rows, &n->highest, &n->total);
    w->runs->forward(t, x, y, &n->highest, &n->total, &n->change);
    w->runs->end(&n->highest, &n->total, t->rows, t->keep_scale, &n->factor, &n->lse);
}

static void group_forward(const work *w, const drop_tile *t, uint64_t r)
{
    group_numbers n;
    const size_t at = r * w->s->columns * w->number;
    start_rows(w, t, w->x + at, w->y + at, &n);
    w->runs->normalize(t, w->y + at, &n.factor);
    if (w->lse) memcpy(w->lse + r * w->number, &n.lse, t->rows * w->number);
}

static void group_backward(const work *w, const drop_tile *t, uint64_t r, char *copy)
{
    group_numbers n;
    const size_t at = r * w->s->columns * w->number, bytes = t->rows * w->s->columns * w->number;
    if (w->lse) {
        w->runs->backward(t, w->x + at, w->grad + at, w->lse + r * w->number, w->delta + r * w->number);
        return;
    }
    start_rows(w, t, w->x + at, copy, &n);
    w->runs->products(t, copy, w->grad + at, &n.factor, &n.delta);
    memcpy(copy, w->x + at, bytes);
    w->runs->backward(t, copy, w->grad + at, &n.lse, &n.delta);
}

static int softmax_task(void *context, int64_t number)
{
    const work *w = context;
    const drop_softmax *s = w->s;
    const uint64_t begin = (uint64_t)number * w->task_rows, end = min_u64(begin + w->task_rows, s->rows);
    char *part = take_scratch(&w->scratch);
    const uint64_t *bits = s->bits;
    uint64_t bit = begin * s->width;
    int status = 0;
    if (s->mask) {
        bits = (uint64_t *)part;
        bit = 0;
        status = drop_range_bits(w->kernels, s->mask, s->first + begin * s->width,
                                 (end - begin - 1) * s->width + s->columns, (uint64_t *)part, 0);
    }
    for (uint64_t r = begin, n; r < end && !status; r += n) {
        n = group_from(w, r, end);
        const drop_tile t = tile_of(w, r, n, bits, bit + (r - begin) * s->width);
        if (w->grad) group_backward(w, &t, r, part + w->bits_bytes);
        else group_forward(w, &t, r);
    }
    give_scratch(&w->scratch, part);
    return status;
}

static uint64_t rows_within(uint64_t elements, uint64_t columns, uint64_t most)
{
    const uint64_t n = elements / columns;
    return n < 1 ? 1 : min_u64(n, most);
}

static int run(work *w, drop_workers by)
{
    const drop_softmax *s = w->s;
    if (s->rows == 0 || s->columns == 0) return 0;
    w->runs = w->kernels->elements->softmax[s->precision];
    w->number = s->precision == DROP_SINGLE ? sizeof(float) : sizeof(double);
    by = workers_for(by, COST * s->rows * s->columns);
    w->group_rows = rows_within(GROUP, s->columns, GROUP_ROWS);
    w->task_rows = rows_within(TASK, s->width, s->rows);
    /* A word more than bits need: 64 of them are read wherever they begin. */
    w->bits_bytes = s->mask ? aligned_bytes((w->task_rows * s->width / 64 + 2) * sizeof(uint64_t)) : 0;
    const size_t numbers = w->grad && !w->lse ? w->group_rows * s->columns * w->number : 0;
    int status = make_scratch(&w->scratch, by.threads, w->bits_bytes + numbers);
    if (status) return status;
    status = drop_parallel(by, (int64_t)((s->rows + w->task_rows - 1) / w->task_rows), softmax_task, w);
    free_scratch(&w->scratch);
    return status;
}

int drop_softmax_rows(const drop_kernels *kernels, const drop_softmax *s, const void *x, void *y, void *lse,
                      drop_workers by)
{
    work w = {.kernels = kernels, .s = s, .x = (char *)x, .y = y, .lse = lse};
    return run(&w, by);
}

int drop_softmax_rows_backward(const drop_kernels *kernels, const drop_softmax *s, void *x, void *grad,
                               const void *lse, const void *delta, drop_workers by)
{
    work w = {.kernels = kernels, .s = s, .x = x, .grad = grad, .lse = (char *)lse, .delta = delta};
    return run(&w, by);
}
