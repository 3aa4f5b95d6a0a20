/* Dropout and its relatives on whole arrays: every layout, every thread, one pass over memory. */
#ifndef DROP_EVALUATE_H
#define DROP_EVALUATE_H

#include <limits.h>

#include "drivers/arrays.h"
#include "drivers/mask.h"
#include "runtime/tasks.h"

enum { DROP_NO_MEMORY = INT_MIN };

typedef struct {
    const drop_mask *mask;
    uint64_t first;       /* the mask's element for the first of x; the others' follow in C order */
    const uint64_t *bits; /* or, if it is not NULL, packed keep bits, and how many of them lie */
    ptrdiff_t bit_stride[DROP_MAX_DIMS]; /* between neighbours along each axis */
    drop_form form;
    drop_numbers numbers;
    drop_arrays arrays; /* inputs as many as the form has */
} drop_operation;

/* Changes the arrays' axes. Returns 0, what `fill` returned if it failed, or DROP_NO_MEMORY, and then
 * nothing has been written. */
int drop_evaluate(const drop_kernels *kernels, drop_operation *op, drop_workers by);

/* The same of contiguous arrays in which one sample lies after the other. Each has a mask of its own, of which
 * its first element is `first`; the operation's `mask` and `bits` are not looked at. */
int drop_evaluate_samples(const drop_kernels *kernels, drop_operation *op, const drop_samples *samples,
                          drop_workers by);

#endif
