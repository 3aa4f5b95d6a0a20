/* Whole operations of dropout's relatives: shared masks, operands, any form. */
#ifndef DROP_EVALUATE_H
#define DROP_EVALUATE_H

#include "drivers/walk.h"

/* Axes, outermost first, and the strides of arrays that are walked together. */
typedef struct {
    int ndim, arrays;
    ptrdiff_t shape[DROP_MAX_DIMS], stride[1 + DROP_INPUTS][DROP_MAX_DIMS];
} drop_grid;

typedef struct {
    const uint64_t *bits;  /* packed keep bits, walked by mask_grid; NULL: from `mask`, in order */
    const drop_mask *mask;
    uint64_t first;        /* the mask's element for the first of x, in order */
    drop_grid mask_grid;   /* one array: strides in mask elements */
    drop_grid grid;        /* y, x and the operands: strides in bytes */
    const char *at[DROP_INPUTS];
    char *y;
    drop_form form;
    drop_dtype dtype;
    drop_numbers numbers;
} drop_operation;

/* Joins the grids' axes where it can. Returns 0, or what `fill` returned if it failed. */
int drop_evaluate(const drop_kernels *kernels, drop_operation *op, int threads);

#endif
