/* What drop_evaluate's ways through arrays share: an operation under way, and one piece of it. */
#ifndef DROP_WORK_H
#define DROP_WORK_H

#include "drivers/evaluate.h"
#include "drivers/operation.h"
#include "kernels/bits.h"

enum { PIECE = BLOCKS_PER_TASK * DROP_BLOCK }; /* elements, at most */

typedef struct {
    const drop_kernels *kernels;
    drop_operation *op;
    uint64_t size;        /* elements */
    uint64_t task_blocks; /* of elements, for each task along rows */
    int axis;             /* along which rows run */
    int streaming;
    ptrdiff_t prefetch; /* bytes of inputs to ask for before a block's bits are made */
    drop_pipe_run pipe; /* for whole blocks of contiguous arrays, or NULL */
} drop_work;

/* What every way begins with; 0 if there are no elements. `by` becomes those who share them out. */
int drop_begin_work(drop_work *work, const drop_kernels *kernels, drop_operation *op, drop_workers *by);

/* A pipeline for the operation, or NULL. */
drop_pipe_run drop_find_pipe(const drop_kernels *kernels, const drop_operation *op);

/* Task number `number` along rows of a work. */
int drop_rows_task(void *work, int64_t number);

/* Under bits that are given. */
int drop_by_bits(drop_work *work, drop_workers by);

/* With rows along an earlier axis than the last, as in Fortran order. */
int drop_by_bands(drop_work *work, drop_workers by);

/* n elements of a row, whose bits begin at the start of `keep`. */
static inline void run_piece(const drop_work *w, const drop_cursor *c, uint64_t n, const uint64_t *keep)
{
    const drop_operation *op = w->op;
    const drop_arrays *a = &op->arrays;
    char *y = array_at(a, c, 0);
    const ptrdiff_t y_stride = a->stride[0][w->axis];
    if (op->form == DROP_SCALE) {
        w->kernels->elements->apply[a->dtype](array_at(a, c, 1), a->stride[1][w->axis], y, y_stride, (size_t)n, keep,
                                    op->numbers.scale, w->streaming);
        return;
    }
    drop_input in[DROP_INPUTS];
    for (int k = 1; k < a->count; k++)
        in[k - 1] = (drop_input){array_at(a, c, k), a->stride[k][w->axis]};
    w->kernels->elements->form[op->form][a->dtype](in, y, y_stride, (size_t)n, keep, &op->numbers, w->streaming);
}

/* Elements in C order, whose bits are bit .. end-1 of `keep`. */
static inline void run_pieces(const drop_work *w, drop_cursor *c, const uint64_t *keep, uint64_t bit,
                              uint64_t end)
{
    const drop_arrays *a = &w->op->arrays;
    uint64_t piece[PIECE / 64];
    for (uint64_t n; bit < end; bit += n) {
        const uint64_t *bits = keep + bit / 64;
        n = min_u64(end - bit, row_left(c, a));
        if (bit % 64) {
            copy_bits(piece, 0, keep, bit, n);
            bits = piece;
        }
        run_piece(w, c, n, bits);
        cursor_move(c, a, 0, n);
    }
}

#endif
