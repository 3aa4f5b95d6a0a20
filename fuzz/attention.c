/* Arrays are of their own, so that a sanitizer sees each byte beyond. Numbers are small and exact in every dtype. */
#include "attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/attention.h"
#include "drivers/evaluate.h"
#include "drivers/mask.h"

enum { Q, K, V, OUT, GRAD, DQ, DK, DV, MATRICES };

typedef struct {
    drop_attention a;
    const drop_kernels *kernels;
    double *plain[MATRICES], *bias; /* what kernels read and should write, contiguous */
    char *memory[MATRICES], *bias_memory;
    ptrdiff_t pitch[MATRICES]; /* bytes from row to row */
    uint64_t *keep;
} fuzz_case;

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

#define GEMM(name, type)                                                                                     \
    static void name(const char *ta, const char *tb, const int *m, const int *n, const int *k, const void *alpha, \
                     const void *a_, const int *lda, const void *b_, const int *ldb, const void *beta, void *c_,  \
                     const int *ldc)                                                                          \
    {                                                                                                        \
        const type *a = a_, *b = b_;                                                                          \
        type *c = c_;                                                                                        \
        for (int i = 0; i < *m; i++)                                                                          \
            for (int j = 0; j < *n; j++) {                                                                    \
                double sum = 0;                                                                              \
                for (int l = 0; l < *k; l++)                                                                  \
                    sum += (double)a[*ta == 'T' ? l + (ptrdiff_t)i * *lda : i + (ptrdiff_t)l * *lda] *         \
                           b[*tb == 'T' ? j + (ptrdiff_t)l * *ldb : l + (ptrdiff_t)j * *ldb];                  \
                type *to = c + i + (ptrdiff_t)j * *ldc;                                                       \
                *to = (type)(*(const type *)alpha * sum + (*(const type *)beta ? *(const type *)beta * *to : 0)); \
            }                                                                                                \
    }
GEMM(single_gemm, float)
GEMM(double_gemm, double)

static int64_t rows_of(const drop_attention *a, int which)
{
    return which == K || which == V || which == DK || which == DV ? a->columns : a->rows;
}

static int64_t heads_of(const drop_attention *a, int which)
{
    return which == K || which == V || which == DK || which == DV ? a->groups : a->heads;
}

static int64_t width_of(const drop_attention *a, int which)
{
    return which == Q || which == K || which == DQ || which == DK ? a->width : a->value_width;
}

static size_t count_of(const drop_attention *a, int which)
{
    return (size_t)(a->batches * heads_of(a, which) * rows_of(a, which) * width_of(a, which));
}

/* An element's number of its dtype, through the kernels' own conversions, which other tests know. */
static void write_element(const fuzz_case *f, double value, char *to)
{
    const float single = (float)value;
    const int is_single = drop_precision_of(f->a.dtype) == DROP_SINGLE;
    f->kernels->elements->narrow[f->a.dtype](is_single ? (const void *)&single : &value, to, 1);
}

static double read_element(const fuzz_case *f, const char *from)
{
    float single;
    double value;
    const int is_single = drop_precision_of(f->a.dtype) == DROP_SINGLE;
    f->kernels->elements->widen[f->a.dtype](from, is_single ? (void *)&single : &value, 1);
    return is_single ? single : value;
}

static char *element_at(const fuzz_case *f, int which, size_t i)
{
    const size_t width = (size_t)width_of(&f->a, which);
    return f->memory[which] + (ptrdiff_t)(i / width) * f->pitch[which] + (ptrdiff_t)(i % width) * drop_item_size(f->a.dtype);
}

static void make_matrix(fuzz_case *f, int which, drop_matrices *m, uint64_t *state)
{
    const drop_attention *a = &f->a;
    const int64_t rows = rows_of(a, which), width = width_of(a, which), item = drop_item_size(a->dtype);
    const int64_t all = a->batches * heads_of(a, which) * rows;
    f->pitch[which] = (width + (int64_t)next(state) % 3) * item;
    f->memory[which] = malloc((size_t)((all - 1) * f->pitch[which] + width * item));
    f->plain[which] = malloc(count_of(a, which) * sizeof(double));
    *m = (drop_matrices){f->memory[which], {heads_of(a, which) * rows * f->pitch[which], rows * f->pitch[which], f->pitch[which]}};
    for (size_t i = 0; i < count_of(a, which); i++) {
        f->plain[which][i] = which < OUT || which == GRAD ? (double)(next(state) % 17) / 8 - 1 : 0;
        write_element(f, f->plain[which][i], element_at(f, which, i));
    }
}

static void make_bias(fuzz_case *f, uint64_t *state)
{
    drop_attention *a = &f->a;
    const int64_t kind = (int64_t)next(state) % 4, shared = (int64_t)next(state) % 2;
    const int64_t rows = shared ? 1 : a->rows, count = rows * a->columns;
    if (kind == 0) return;
    a->bias.dtype = kind == 1 ? DROP_DTYPES : (int)a->dtype;
    const ptrdiff_t item = kind == 1 ? 1 : drop_item_size(a->dtype);
    f->bias = malloc((size_t)count * sizeof(double));
    f->bias_memory = malloc((size_t)(count * item));
    a->bias.at = f->bias_memory;
    a->bias.stride[2] = shared ? 0 : a->columns * item;
    a->bias.stride[3] = item;
    for (int64_t i = 0; i < count; i++) {
        const uint64_t n = next(state) % 8;
        f->bias[i] = kind == 1 ? (n ? 0 : -INFINITY) : n ? (double)n / 4 : -INFINITY;
        if (kind == 1) f->bias_memory[i] = n > 0;
        else write_element(f, f->bias[i], f->bias_memory + i * item);
    }
}

/* A row of scores, then of probabilities; returns their sum before division. */
static void make_row(const fuzz_case *f, int64_t head, int64_t group, int64_t i, double *p)
{
    const drop_attention *a = &f->a;
    const double *q = f->plain[Q] + (head * a->rows + i) * a->width, *k = f->plain[K] + group * a->columns * a->width;
    double highest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < a->columns; j++) {
        double score = 0;
        for (int64_t d = 0; d < a->width; d++) score += q[d] * k[j * a->width + d];
        p[j] = a->causal && j > i ? -INFINITY : score * a->scale;
        if (f->bias) p[j] += f->bias[(a->bias.stride[2] ? i * a->columns : 0) + j];
        if (p[j] > highest) highest = p[j];
    }
    for (int64_t j = 0; j < a->columns; j++) sum += p[j] = highest == -INFINITY ? 0 : exp(p[j] - highest);
    for (int64_t j = 0; j < a->columns && sum; j++) p[j] /= sum;
}

static double keep_factor(const fuzz_case *f, uint64_t element)
{
    if (!f->a.mask) return f->a.keep_scale;
    return f->keep[element / 64] >> element % 64 & 1 ? f->a.keep_scale : 0;
}

static void go_through(fuzz_case *f)
{
    const drop_attention *a = &f->a;
    double *p = malloc((size_t)a->columns * sizeof *p), *g = malloc((size_t)a->columns * sizeof *g);
    for (int64_t head = 0; head < a->batches * a->heads; head++)
        for (int64_t i = 0; i < a->rows; i++) {
            const int64_t group = head / a->heads * a->groups + head % a->heads / (a->heads / a->groups);
            const int64_t row = head * a->rows + i;
            double *out = f->plain[OUT] + row * a->value_width, *grad = f->plain[GRAD] + row * a->value_width, delta = 0;
            make_row(f, head, group, i, p);
            for (int64_t j = 0; j < a->columns; j++) {
                const double keep = keep_factor(f, (uint64_t)(row * a->columns + j));
                const int64_t at = (group * a->columns + j) * a->value_width;
                g[j] = 0;
                for (int64_t e = 0; e < a->value_width; e++) {
                    out[e] += p[j] * keep * f->plain[V][at + e];
                    f->plain[DV][at + e] += p[j] * keep * grad[e];
                    g[j] += keep * grad[e] * f->plain[V][at + e];
                }
                delta += p[j] * g[j];
            }
            for (int64_t j = 0; j < a->columns; j++)
                for (int64_t d = 0; d < a->width; d++) {
                    const double ds = p[j] * (g[j] - delta) * a->scale;
                    const int64_t at = (group * a->columns + j) * a->width + d;
                    f->plain[DQ][row * a->width + d] += ds * f->plain[K][at];
                    f->plain[DK][at] += ds * f->plain[Q][row * a->width + d];
                }
        }
    free(p);
    free(g);
}

static const char *compare(const fuzz_case *f)
{
    static const char *const names[] = {[OUT] = "output", [DQ] = "dq", [DK] = "dk", [DV] = "dv"};
    static const double errors[] = {[DROP_F16] = 0.02, [DROP_BF16] = 0.1, [DROP_F32] = 1e-4, [DROP_F64] = 1e-9};
    for (int which = OUT; which < MATRICES; which++)
        for (size_t i = 0; which != GRAD && i < count_of(&f->a, which); i++) {
            const double right = f->plain[which][i], found = read_element(f, element_at(f, which, i));
            if (!(fabs(found - right) <= errors[f->a.dtype] * (4 + fabs(right)))) return names[which];
        }
    return NULL;
}

const char *fuzz_attention(const drop_kernels *kernels, const drop_mask *mask, uint64_t seed)
{
    static const drop_dtype real[] = {DROP_F16, DROP_BF16, DROP_F32, DROP_F64};
    uint64_t state = seed;
    const int64_t shared = 1 + (int64_t)next(&state) % 2;
    fuzz_case f = {.kernels = kernels};
    drop_attention *a = &f.a;
    a->gemm[DROP_SINGLE] = single_gemm, a->gemm[DROP_DOUBLE] = double_gemm;
    a->dtype = real[next(&state) % 4];
    a->batches = 1 + (int64_t)next(&state) % 2, a->groups = 1 + (int64_t)next(&state) % 2, a->heads = shared * a->groups;
    a->rows = 1 + (int64_t)next(&state) % (next(&state) % 4 ? 40 : 200);
    a->columns = 1 + (int64_t)next(&state) % (next(&state) % 4 ? 90 : 600);
    a->width = 1 + (int64_t)next(&state) % 5, a->value_width = 1 + (int64_t)next(&state) % 5;
    a->causal = next(&state) % 2, a->scale = (double)(next(&state) % 5) / 4, a->keep_scale = 1.25;
    a->mask = next(&state) % 8 ? mask : NULL;
    drop_matrices *const all[] = {&a->q, &a->k, &a->v, &a->out, &a->grad, &a->dq, &a->dk, &a->dv};
    for (int which = 0; which < MATRICES; which++) make_matrix(&f, which, all[which], &state);
    make_bias(&f, &state);
    const uint64_t elements = (uint64_t)(a->batches * a->heads * a->rows * a->columns);
    a->row_stats = malloc((size_t)(2 * a->batches * a->heads * a->rows) * (a->dtype == DROP_F64 ? 8 : 4));
    f.keep = malloc((elements / 64 + 2) * sizeof *f.keep);
    const int failed = a->mask ? drop_range_bits(kernels, mask, 0, elements, f.keep, 0) : 0;
    const drop_workers by = {.threads = 1};
    int status = drop_attend(kernels, a, by);
    if (!status) status = drop_attend_backward(kernels, a, by);
    const char *wrong = status != failed ? "status" : NULL;
    if (!status && !wrong) {
        go_through(&f);
        wrong = compare(&f);
    }
    for (int which = 0; which < MATRICES; which++) free(f.memory[which]), free(f.plain[which]);
    free(f.bias), free(f.bias_memory), free(a->row_stats), free(f.keep);
    return wrong;
}
