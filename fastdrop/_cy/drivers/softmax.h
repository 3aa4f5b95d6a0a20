/* Softmax with dropout of whole rows, and its backward pass. */
#ifndef DROP_SOFTMAX_ROWS_H
#define DROP_SOFTMAX_ROWS_H

#include "kernels/kernels.h"
#include "runtime/tasks.h"

/* Rows of numbers, one after the other. Row r, column c has element `first + r * width + c` of the mask, or bit
 * r * width + c of `bits`; without both, nothing is dropped. */
typedef struct {
    drop_precision precision;
    uint64_t rows, columns;
    double scale, keep_scale;
    const drop_mask *mask; /* or NULL */
    uint64_t first, width;
    const uint64_t *bits; /* or NULL; a word more than they need */
    const void *bias;     /* or NULL: row r has row r % bias_rows of it added */
    uint64_t bias_rows;
    uint64_t causal; /* rows of a matrix, or 0: row i of a matrix ends after i + 1 columns. */
    uint64_t row;    /* which of a matrix the first row is */
} drop_softmax;

/* y: the dropped probabilities; x itself is allowed. lse: NULL, or each row's logarithm of its sum of exponentials. */
int drop_softmax_rows(const drop_kernels *kernels, const drop_softmax *s, const void *x, void *y, void *lse,
                      drop_workers by);

/* Makes of `grad`, the gradient of the dropped probabilities, that of the scores but for the factor `scale`. With
 * `lse` and `delta`, each row's sum of gradient times dropped probability, x becomes the dropped probabilities.
 * Without, both are computed, and x remains. */
int drop_softmax_rows_backward(const drop_kernels *kernels, const drop_softmax *s, void *x, void *grad,
                               const void *lse, const void *delta, drop_workers by);

/* Both return 0, or why they failed; nothing is written then unless a generator failed. */

#endif
