/* Scores are made for a tile of rows and a block of columns at a time, as many as the second-level cache
 * holds, and never kept. The backward pass makes them again, from each row's largest score and sum of
 * exponentials (T. Dao et al., "FlashAttention", arXiv:2205.14135, 2022); the mask needs no memory anyway. */
#include "drivers/attention.h"

#include <math.h>
#include <string.h>

#include "drivers/mask.h"
#include "drivers/operation.h"
#include "drivers/scratch.h"

enum {
    TILE_ROWS = 256,
    TILE_COLUMNS = 512, /* half as many where their gradients lie beside them */
};

typedef struct {
    int64_t rows, columns; /* that are set aside for a tile */
    size_t scores, grads, bits, bias, q, k, v, out, grad, dq, dk, dv, row_numbers; /* bytes from the start */
    size_t bytes;
} scratch_plan;

typedef struct {
    const drop_kernels *kernels;
    const drop_attention *a;
    const drop_softmax_runs *softmax;
    size_t number; /* bytes of a number */
    int direct;    /* elements are numbers: matrices are used where they are */
    scratch_plan plan;
    drop_scratch scratch;
} work;

/* A tile under way. */
typedef struct {
    int64_t batch, head, group, row, rows;
    char *scratch;
    const char *q, *out, *grad;
    ptrdiff_t q_pitch, out_pitch, grad_pitch; /* numbers */
} tile;

/* Numbers of each row of a tile. */
enum { HIGHEST, TOTAL, CHANGE, FACTOR, DELTA, ROW_NUMBERS };

static void *row_numbers(const work *w, const tile *t, int which)
{
    return t->scratch + w->plan.row_numbers + (size_t)which * TILE_ROWS * w->number;
}

static size_t set_aside(scratch_plan *plan, int64_t count, size_t size)
{
    const size_t at = plan->bytes;
    plan->bytes = aligned_bytes(at + (size_t)count * size);
    return at;
}

static void plan_scratch(work *w, int backward)
{
    const drop_attention *a = w->a;
    scratch_plan *p = &w->plan;
    const int64_t copied = w->direct ? 0 : 1;
    p->rows = a->rows < TILE_ROWS ? a->rows : TILE_ROWS;
    const int64_t most = backward ? TILE_COLUMNS / 2 : TILE_COLUMNS;
    p->columns = a->columns < most ? a->columns : most;
    p->scores = set_aside(p, p->rows * p->columns, w->number);
    p->grads = set_aside(p, backward * p->rows * p->columns, w->number);
    p->bias = set_aside(p, a->bias.at ? p->rows * p->columns : 0, w->number);
    p->bits = set_aside(p, a->mask ? p->rows * a->columns / 64 + 2 : 0, sizeof(uint64_t));
    p->row_numbers = set_aside(p, ROW_NUMBERS * TILE_ROWS, w->number);
    p->q = set_aside(p, copied * p->rows * a->width, w->number);
    p->k = set_aside(p, copied * p->columns * a->width, w->number);
    p->v = set_aside(p, copied * p->columns * a->value_width, w->number);
    p->out = set_aside(p, copied * p->rows * a->value_width, w->number);
    p->grad = set_aside(p, copied * backward * p->rows * a->value_width, w->number);
    p->dq = set_aside(p, copied * backward * p->rows * a->width, w->number);
    p->dk = set_aside(p, copied * backward * a->columns * a->width, w->number);
    p->dv = set_aside(p, copied * backward * a->columns * a->value_width, w->number);
}

static char *rows_at(const drop_matrices *m, int64_t batch, int64_t head, int64_t row)
{
    return m->at + batch * m->stride[0] + head * m->stride[1] + row * m->stride[2];
}

/* Where rows of a matrix are as numbers: where it is itself, or in `copy`. pitch: numbers from row to row. */
static char *place_of(const work *w, const drop_matrices *m, int64_t batch, int64_t head, int64_t row,
                      int64_t width, char *copy, ptrdiff_t *pitch)
{
    *pitch = w->direct ? m->stride[2] / (ptrdiff_t)w->number : width;
    return w->direct ? rows_at(m, batch, head, row) : copy;
}

/* Some rows of a matrix as numbers. */
static char *numbers_of(const work *w, const drop_matrices *m, int64_t batch, int64_t head, int64_t row,
                        int64_t rows, int64_t width, char *copy, ptrdiff_t *pitch)
{
    const char *from = rows_at(m, batch, head, row);
    for (int64_t r = 0; r < rows && !w->direct; r++)
        w->kernels->elements->widen[w->a->dtype](from + r * m->stride[2], copy + (size_t)(r * width) * w->number, (size_t)width);
    return place_of(w, m, batch, head, row, width, copy, pitch);
}

static void write_rows(const work *w, const drop_matrices *m, int64_t batch, int64_t head, int64_t row,
                       int64_t rows, int64_t width, const char *numbers)
{
    char *to = rows_at(m, batch, head, row);
    for (int64_t r = 0; r < rows && !w->direct; r++)
        w->kernels->elements->narrow[w->a->dtype](numbers + (size_t)(r * width) * w->number, to + r * m->stride[2], (size_t)width);
}

/* c = alpha * op(a) op(b) + beta * c, in C order: m x n, with k to sum over. BLAS has Fortran's order, in
 * which each matrix is its transpose, and so the factors change places. */
static void multiply(const work *w, int transposed_a, int transposed_b, int64_t m, int64_t n, int64_t k,
                     double alpha, const char *a, ptrdiff_t pitch_a, const char *b, ptrdiff_t pitch_b, int beta,
                     char *c, ptrdiff_t pitch_c)
{
    const int sizes[] = {(int)m, (int)n, (int)k, (int)pitch_a, (int)pitch_b, (int)pitch_c};
    const float single[] = {(float)alpha, (float)beta};
    const double twice[] = {alpha, beta};
    const int is_single = w->number == sizeof(float);
    w->a->gemm[is_single ? DROP_SINGLE : DROP_DOUBLE](
        transposed_b ? "T" : "N", transposed_a ? "T" : "N", &sizes[1], &sizes[0], &sizes[2],
        is_single ? (const void *)&single[0] : &twice[0], b, &sizes[4], a, &sizes[3],
        is_single ? (const void *)&single[1] : &twice[1], c, &sizes[5]);
}

static void set_number(const work *w, void *numbers, int64_t i, double value)
{
    if (w->number == sizeof(float)) ((float *)numbers)[i] = (float)value;
    else ((double *)numbers)[i] = value;
}

/* Bytes that say which columns count, as numbers that are added. */
static void copy_bytes_of_bias(const work *w, const char *from, ptrdiff_t step, int64_t columns, char *to)
{
    float *single = (float *)to;
    double *twice = (double *)to;
    if (w->number == sizeof(double))
        for (int64_t c = 0; c < columns; c++) twice[c] = from[c * step] ? 0 : -INFINITY;
    else if (step == 1)
        for (int64_t c = 0; c < columns; c++) single[c] = from[c] ? 0 : -INFINITY;
    else
        for (int64_t c = 0; c < columns; c++) single[c] = from[c * step] ? 0 : -INFINITY;
}

/* A row of the bias as numbers. */
static void copy_bias(const work *w, const char *from, int64_t columns, char *to)
{
    const drop_bias *bias = &w->a->bias;
    const ptrdiff_t step = bias->stride[3];
    if (bias->dtype == DROP_DTYPES) {
        copy_bytes_of_bias(w, from, step, columns, to);
        return;
    }
    const drop_dtype dtype = (drop_dtype)bias->dtype;
    const int item = drop_item_size(dtype), is_single = drop_precision_of(dtype) == DROP_SINGLE;
    if (step == item && is_single == (w->number == sizeof(float))) {
        w->kernels->elements->widen[dtype](from, to, (size_t)columns);
        return;
    }
    char elements[64 * sizeof(double)];
    union {
        float single[64];
        double twice[64];
    } numbers;
    for (int64_t c = 0, n; c < columns; c += n) {
        n = columns - c < 64 ? columns - c : 64;
        for (int64_t i = 0; i < n; i++) memcpy(elements + i * item, from + (c + i) * step, (size_t)item);
        w->kernels->elements->widen[dtype](elements, &numbers, (size_t)n);
        for (int64_t i = 0; i < n; i++) set_number(w, to, c + i, is_single ? numbers.single[i] : numbers.twice[i]);
    }
}

static void set_bias(const work *w, const tile *t, int64_t column, drop_tile *scores)
{
    const drop_bias *bias = &w->a->bias;
    if (!bias->at) return;
    const char *from = bias->at + t->batch * bias->stride[0] + t->head * bias->stride[1] + t->row * bias->stride[2] +
                       column * bias->stride[3];
    const int is_number = bias->dtype != DROP_DTYPES && drop_item_size((drop_dtype)bias->dtype) == (int)w->number;
    if (is_number && bias->stride[3] == (ptrdiff_t)w->number && bias->stride[2] % (ptrdiff_t)w->number == 0 &&
        bias->stride[2] >= 0 && (uintptr_t)from % w->number == 0) {
        scores->bias = from;
        scores->bias_pitch = (size_t)bias->stride[2] / w->number;
        return;
    }
    char *to = t->scratch + w->plan.bias;
    const int64_t rows = bias->stride[2] ? t->rows : 1;
    scores->bias = to;
    scores->bias_pitch = bias->stride[2] ? scores->columns : 0;
    for (int64_t r = 0; r < rows; r++)
        copy_bias(w, from + r * bias->stride[2], (int64_t)scores->columns, to + (size_t)r * scores->columns * w->number);
}

/* How many columns a block has that begins with one. */
static int64_t block_columns(const work *w, int64_t column)
{
    const int64_t left = w->a->columns - column;
    return left < w->plan.columns ? left : w->plan.columns;
}

/* Makes a block's scores: q k^T, not yet scaled. */
static drop_tile make_scores(const work *w, const tile *t, int64_t column, const char *k, ptrdiff_t k_pitch)
{
    const drop_attention *a = w->a;
    const int64_t columns = block_columns(w, column);
    drop_tile scores = {
        .rows = (size_t)t->rows, .columns = (size_t)columns, .pitch = (size_t)columns, .scale = a->scale,
        .limit = a->causal ? (ptrdiff_t)(t->row - column + 1) : (ptrdiff_t)columns,
        .bit = (uint64_t)column, .bit_pitch = (uint64_t)a->columns, .keep_scale = a->keep_scale,
        .keep = a->mask ? (const uint64_t *)(t->scratch + w->plan.bits) : NULL,
    };
    multiply(w, 0, 1, t->rows, columns, a->width, 1, t->q, t->q_pitch, k, k_pitch, 0, t->scratch + w->plan.scores, columns);
    set_bias(w, t, column, &scores);
    return scores;
}

/* Columns that some row of a tile has. */
static int64_t columns_of(const work *w, const tile *t)
{
    const int64_t end = t->row + t->rows;
    return w->a->causal && end < w->a->columns ? end : w->a->columns;
}

static int begin_tile(const work *w, tile *t)
{
    const drop_attention *a = w->a;
    t->rows = a->rows - t->row < w->plan.rows ? a->rows - t->row : w->plan.rows;
    t->q = numbers_of(w, &a->q, t->batch, t->head, t->row, t->rows, a->width, t->scratch + w->plan.q, &t->q_pitch);
    if (!a->mask) return 0;
    const uint64_t first = (uint64_t)((t->batch * a->heads + t->head) * a->rows + t->row) * (uint64_t)a->columns;
    return drop_range_bits(w->kernels, a->mask, first, (uint64_t)(t->rows * a->columns),
                           (uint64_t *)(t->scratch + w->plan.bits), 0);
}

/* The largest scores of a tile's rows, or 1 / their sums of exponentials. */
static char *row_stats_of(const work *w, const tile *t, int is_inverse)
{
    const int64_t head = (is_inverse * w->a->batches + t->batch) * w->a->heads + t->head;
    return (char *)w->a->row_stats + (size_t)(head * w->a->rows + t->row) * w->number;
}

static void attend_tile(const work *w, tile *t)
{
    const drop_attention *a = w->a;
    const int64_t columns = columns_of(w, t);
    char *scores = t->scratch + w->plan.scores;
    void *highest = row_numbers(w, t, HIGHEST), *total = row_numbers(w, t, TOTAL);
    void *change = row_numbers(w, t, CHANGE), *factor = row_numbers(w, t, FACTOR);
    ptrdiff_t pitch, k_pitch, v_pitch;
    w->softmax->start((size_t)t->rows, highest, total);
    char *out = place_of(w, &a->out, t->batch, t->head, t->row, a->value_width, t->scratch + w->plan.out, &pitch);
    for (int64_t c = 0; c < columns; c += w->plan.columns) {
        const int64_t n = block_columns(w, c);
        const char *k = numbers_of(w, &a->k, t->batch, t->group, c, n, a->width, t->scratch + w->plan.k, &k_pitch);
        const drop_tile block = make_scores(w, t, c, k, k_pitch);
        w->softmax->forward(&block, scores, scores, highest, total, change);
        if (c) w->softmax->multiply(out, (size_t)pitch, (size_t)t->rows, (size_t)a->value_width, change);
        const char *v = numbers_of(w, &a->v, t->batch, t->group, c, n, a->value_width, t->scratch + w->plan.v, &v_pitch);
        multiply(w, 0, 0, t->rows, a->value_width, n, 1, scores, n, v, v_pitch, c > 0, out, pitch);
    }
    memcpy(row_stats_of(w, t, 0), highest, (size_t)t->rows * w->number);
    w->softmax->end(highest, total, (size_t)t->rows, 1, row_stats_of(w, t, 1), NULL);
    w->softmax->end(highest, total, (size_t)t->rows, a->keep_scale, factor, NULL);
    w->softmax->multiply(out, (size_t)pitch, (size_t)t->rows, (size_t)a->value_width, factor);
    write_rows(w, &a->out, t->batch, t->head, t->row, t->rows, a->value_width, out);
}

static int attend_task(void *context, int64_t number)
{
    const work *w = context;
    const drop_attention *a = w->a;
    const int64_t tiles = (a->rows + w->plan.rows - 1) / w->plan.rows, head = number / tiles;
    tile t = {.batch = head / a->heads, .head = head % a->heads, .row = number % tiles * w->plan.rows};
    t.group = t.head / (a->heads / a->groups);
    t.scratch = take_scratch(&w->scratch);
    const int status = begin_tile(w, &t);
    if (!status) attend_tile(w, &t);
    give_scratch(&w->scratch, t.scratch);
    return status;
}

/* Each row's sum of gradient times output, which is that of gradient times dropped probability. */
static void sum_products(const work *w, const tile *t)
{
    void *delta = row_numbers(w, t, DELTA);
    for (int64_t r = 0; r < t->rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < w->a->value_width; c++) {
            const ptrdiff_t i = r * t->out_pitch + c, j = r * t->grad_pitch + c;
            if (w->number == sizeof(float)) sum += (double)((const float *)t->out)[i] * ((const float *)t->grad)[j];
            else sum += ((const double *)t->out)[i] * ((const double *)t->grad)[j];
        }
        set_number(w, delta, r, sum);
    }
}

/* Where sums for all columns of a group of heads are kept. */
typedef struct {
    char *dk, *dv;
    ptrdiff_t dk_pitch, dv_pitch;
} column_sums;

static void go_back_tile(const work *w, tile *t, const column_sums *sums)
{
    const drop_attention *a = w->a;
    const scratch_plan *p = &w->plan;
    char *scores = t->scratch + p->scores, *grads = t->scratch + p->grads;
    const int64_t columns = columns_of(w, t);
    ptrdiff_t k_pitch, v_pitch, dq_pitch;
    char *dq = place_of(w, &a->dq, t->batch, t->head, t->row, a->width, t->scratch + p->dq, &dq_pitch);
    t->out = numbers_of(w, &a->out, t->batch, t->head, t->row, t->rows, a->value_width, t->scratch + p->out, &t->out_pitch);
    t->grad = numbers_of(w, &a->grad, t->batch, t->head, t->row, t->rows, a->value_width, t->scratch + p->grad,
                         &t->grad_pitch);
    sum_products(w, t);
    for (int64_t c = 0; c < columns; c += p->columns) {
        const int64_t n = block_columns(w, c);
        const char *k = numbers_of(w, &a->k, t->batch, t->group, c, n, a->width, t->scratch + p->k, &k_pitch);
        const char *v = numbers_of(w, &a->v, t->batch, t->group, c, n, a->value_width, t->scratch + p->v, &v_pitch);
        drop_tile block = make_scores(w, t, c, k, k_pitch);
        block.inverse = row_stats_of(w, t, 1);
        multiply(w, 0, 1, t->rows, n, a->value_width, 1, t->grad, t->grad_pitch, v, v_pitch, 0, grads, n);
        w->softmax->backward(&block, scores, grads, row_stats_of(w, t, 0), row_numbers(w, t, DELTA));
        char *dv = sums->dv + c * sums->dv_pitch * (ptrdiff_t)w->number;
        char *dk = sums->dk + c * sums->dk_pitch * (ptrdiff_t)w->number;
        multiply(w, 1, 0, n, a->value_width, t->rows, 1, scores, n, t->grad, t->grad_pitch, 1, dv, sums->dv_pitch);
        multiply(w, 0, 0, t->rows, a->width, n, a->scale, grads, n, k, k_pitch, c > 0, dq, dq_pitch);
        multiply(w, 1, 0, n, a->width, t->rows, a->scale, grads, n, t->q, t->q_pitch, 1, dk, sums->dk_pitch);
    }
    write_rows(w, &a->dq, t->batch, t->head, t->row, t->rows, a->width, dq);
}

static char *begin_sums(const work *w, const drop_matrices *m, const tile *t, int64_t width, char *scratch,
                        ptrdiff_t *pitch)
{
    char *sums = place_of(w, m, t->batch, t->group, 0, width, scratch, pitch);
    for (int64_t c = 0; c < w->a->columns; c++)
        memset(sums + c * *pitch * (ptrdiff_t)w->number, 0, (size_t)width * w->number);
    return sums;
}

static int go_back_task(void *context, int64_t number)
{
    const work *w = context;
    const drop_attention *a = w->a;
    const int64_t shared = a->heads / a->groups;
    tile t = {.batch = number / a->groups, .group = number % a->groups};
    column_sums sums;
    int status = 0;
    t.scratch = take_scratch(&w->scratch);
    sums.dk = begin_sums(w, &a->dk, &t, a->width, t.scratch + w->plan.dk, &sums.dk_pitch);
    sums.dv = begin_sums(w, &a->dv, &t, a->value_width, t.scratch + w->plan.dv, &sums.dv_pitch);
    for (t.head = t.group * shared; t.head < (t.group + 1) * shared && !status; t.head++)
        for (t.row = 0; t.row < a->rows && !status; t.row += w->plan.rows) {
            status = begin_tile(w, &t);
            if (!status) go_back_tile(w, &t, &sums);
        }
    write_rows(w, &a->dk, t.batch, t.group, 0, a->columns, a->width, sums.dk);
    write_rows(w, &a->dv, t.batch, t.group, 0, a->columns, a->value_width, sums.dv);
    give_scratch(&w->scratch, t.scratch);
    return status;
}

static int run(const drop_kernels *kernels, const drop_attention *a, drop_workers by, int backward)
{
    const drop_precision precision = drop_precision_of(a->dtype);
    work w = {.kernels = kernels, .a = a, .softmax = kernels->elements->softmax[precision],
              .number = precision == DROP_SINGLE ? sizeof(float) : sizeof(double)};
    w.direct = (size_t)drop_item_size(a->dtype) == w.number;
    plan_scratch(&w, backward);
    const int64_t tiles = (a->rows + w.plan.rows - 1) / w.plan.rows;
    const int64_t tasks = backward ? a->batches * a->groups : a->batches * a->heads * tiles;
    /* BLAS uses its threads where there are too few tasks for ours: it must not within ours. */
    if (!by.team || 2 * tasks <= by.threads) by.threads = 1;
    else if (tasks < by.threads) by.threads = (int)tasks;
    int status = make_scratch(&w.scratch, by.threads, w.plan.bytes);
    if (status) return status;
    status = drop_parallel(by, tasks, backward ? go_back_task : attend_task, &w);
    free_scratch(&w.scratch);
    return status;
}

int drop_attend(const drop_kernels *kernels, const drop_attention *a, drop_workers by) { return run(kernels, a, by, 0); }

int drop_attend_backward(const drop_kernels *kernels, const drop_attention *a, drop_workers by)
{
    return run(kernels, a, by, 1);
}
