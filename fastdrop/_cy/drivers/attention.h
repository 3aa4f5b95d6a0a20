/* Attention with dropout in tiles: softmax(scale * q k^T + bias) under a mask, times v, and its backward pass. */
#ifndef DROP_ATTENTION_H
#define DROP_ATTENTION_H

#include "kernels/kernels.h"
#include "runtime/tasks.h"

/* BLAS's sgemm_ and dgemm_, of the caller's library. */
typedef void (*drop_gemm)(const char *trans_a, const char *trans_b, const int *m, const int *n, const int *k,
                          const void *alpha, const void *a, const int *lda, const void *b, const int *ldb,
                          const void *beta, void *c, const int *ldc);

/* A matrix for each head of each batch. Strides of batches, heads and rows in bytes; columns lie side by side. */
typedef struct {
    char *at;
    ptrdiff_t stride[3];
} drop_matrices;

/* What is added to the scores: numbers of a dtype, or of DROP_DTYPES for bytes that say which count. */
typedef struct {
    const char *at; /* or NULL: nothing */
    int dtype;
    ptrdiff_t stride[4]; /* of batches, heads, rows and columns, in bytes */
} drop_bias;

typedef struct {
    drop_gemm gemm[DROP_PRECISIONS];
    drop_dtype dtype;
    int64_t batches, heads, groups; /* groups: heads of k and v, of which each serves heads / groups of q */
    int64_t rows, columns, width, value_width;
    drop_matrices q, k, v, out;
    void *row_stats; /* each row's largest score, then 1 / its sum: 2 x batches x heads x rows numbers */
    drop_bias bias;
    int causal;
    double scale, keep_scale;
    const drop_mask *mask; /* or NULL: no dropout */
    drop_matrices grad, dq, dk, dv; /* for the backward pass */
} drop_attention;

/* Element (b, h, i, j) has number ((b * heads + h) * rows + i) * columns + j in the mask. Both return 0, or why they
 * failed; nothing is written then unless a generator failed. */
int drop_attend(const drop_kernels *kernels, const drop_attention *a, drop_workers by);
int drop_attend_backward(const drop_kernels *kernels, const drop_attention *a, drop_workers by);

#endif
