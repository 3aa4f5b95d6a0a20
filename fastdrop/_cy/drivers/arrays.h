/* Arrays of one shape that are walked together: their axes, and a place in all of them. */
#ifndef DROP_ARRAYS_H
#define DROP_ARRAYS_H

#include "kernels/kernels.h"

enum { DROP_MAX_DIMS = 64, DROP_ARRAYS = 1 + DROP_INPUTS };

/* Array 0 is written; the others, x and its operands, are only read. Axes come outermost first. */
typedef struct {
    int ndim, count; /* of axes, and of arrays */
    drop_dtype dtype;
    char *at[DROP_ARRAYS];
    ptrdiff_t shape[DROP_MAX_DIMS], stride[DROP_ARRAYS][DROP_MAX_DIMS]; /* in bytes */
} drop_arrays;

static inline uint64_t count_elements(const drop_arrays *a)
{
    uint64_t size = 1;
    for (int i = 0; i < a->ndim; i++) size *= (uint64_t)a->shape[i];
    return size;
}

/* Drops axes of length 1 and joins axes side by side where one stride serves for both in all arrays. */
static inline void join_axes(drop_arrays *a)
{
    int n = 0;
    for (int i = 0; i < a->ndim; i++) {
        if (a->shape[i] == 1) continue;
        int even = n > 0;
        for (int k = 0; k < a->count && even; k++)
            even = a->stride[k][n - 1] == a->shape[i] * a->stride[k][i];
        if (even) a->shape[n - 1] *= a->shape[i];
        else a->shape[n++] = a->shape[i];
        for (int k = 0; k < a->count; k++) a->stride[k][n - 1] = a->stride[k][i];
    }
    if (n == 0) {
        a->shape[0] = 1;
        for (int k = 0; k < a->count; k++) a->stride[k][0] = 0;
        n = 1;
    }
    a->ndim = n;
}

static inline ptrdiff_t step_along(const drop_arrays *a, int axis)
{
    const ptrdiff_t stride = a->stride[0][axis];
    return stride < 0 ? -stride : stride;
}

/* The axis along which what is written lies closest together. */
static inline int fastest_axis(const drop_arrays *a)
{
    int best = a->ndim - 1;
    for (int i = a->ndim - 2; i >= 0; i--)
        if (step_along(a, i) < step_along(a, best)) best = i;
    return best;
}

/* Where an element is: its index along each axis, and its distance from each array's start. */
typedef struct {
    ptrdiff_t index[DROP_MAX_DIMS], offset[DROP_ARRAYS];
} drop_cursor;

/* Goes to element number `at` in C order. */
static inline void cursor_at(drop_cursor *c, const drop_arrays *a, uint64_t at)
{
    for (int k = 0; k < a->count; k++) c->offset[k] = 0;
    for (int i = a->ndim - 1; i >= 0; i--) {
        c->index[i] = (ptrdiff_t)(i ? at % (uint64_t)a->shape[i] : at);
        if (i) at /= (uint64_t)a->shape[i];
        for (int k = 0; k < a->count; k++) c->offset[k] += c->index[i] * a->stride[k][i];
    }
}

/* Elements from here to the end of the row, which runs along the last axis. */
static inline uint64_t row_left(const drop_cursor *c, const drop_arrays *a)
{
    return (uint64_t)(a->shape[a->ndim - 1] - c->index[a->ndim - 1]);
}

/* Moves n on, not past the end of the row, and on to the next row there. Axes before
 * `from` stay as they are. */
static inline void cursor_move(drop_cursor *c, const drop_arrays *a, int from, uint64_t n)
{
    int i = a->ndim - 1;
    c->index[i] += (ptrdiff_t)n;
    for (int k = 0; k < a->count; k++) c->offset[k] += (ptrdiff_t)n * a->stride[k][i];
    for (; i > from && c->index[i] == a->shape[i]; i--) {
        for (int k = 0; k < a->count; k++)
            c->offset[k] += a->stride[k][i - 1] - a->shape[i] * a->stride[k][i];
        c->index[i] = 0;
        c->index[i - 1]++;
    }
}

static inline char *array_at(const drop_arrays *a, const drop_cursor *c, int array)
{
    return a->at[array] + c->offset[array];
}

#endif
