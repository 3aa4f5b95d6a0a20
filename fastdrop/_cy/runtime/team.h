/* An operation on threads that belong to another library: an OpenMP team.
 *
 * After a parallel region a team's threads look for the next one for
 * milliseconds, at full speed. Threads of our own would share cores with them and
 * do worse than one thread alone. So an operation among another library's
 * runs on that library's team, and in that library's shares: thread t takes
 * the t-th part of the rows, which the operation before left in its core's cache.
 */
#ifndef DROP_TEAM_H
#define DROP_TEAM_H

#include <stdatomic.h>
#include <string.h>

#include "drivers/evaluate.h"
#include "drivers/operation.h"
#include "drivers/walk.h"

enum { TEAM_FROM = 1 << 16 }; /* elements: fewer are done before the threads have met */

/* The runtime's GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
typedef void (*drop_team_region)(void (*run)(void *), void *context, unsigned threads, unsigned flags);
typedef int (*drop_team_number)(void);

typedef struct {
    drop_team_region parallel;
    drop_team_number member, size;
} drop_team;

/* Does rows `row` .. `row + rows - 1` of an operation; returns 0 or why it failed. */
typedef int (*drop_part)(const void *operation, ptrdiff_t row, ptrdiff_t rows, int threads);

typedef struct {
    const drop_team *team;
    drop_part part;
    const void *operation;
    ptrdiff_t rows, share; /* of a thread */
    atomic_int failure;
} drop_team_work;

static inline void drop_team_run(void *context)
{
    drop_team_work *w = context;
    /* A runtime may give fewer threads than were asked for, so shares may be more than members. */
    const ptrdiff_t step = w->share * w->team->size();
    for (ptrdiff_t row = w->share * w->team->member(); row < w->rows; row += step) {
        const ptrdiff_t left = w->rows - row;
        int none = 0, status = w->part(w->operation, row, left < w->share ? left : w->share, 1);
        if (status) atomic_compare_exchange_strong(&w->failure, &none, status);
    }
}

/* All rows, by a team; without one, by our own pool. A row has `row_size` elements. */
static inline int drop_by(const drop_team *team, drop_part part, const void *operation,
                          ptrdiff_t rows, ptrdiff_t row_size, int threads)
{
    if (!team || threads <= 1 || rows * row_size < TEAM_FROM) return part(operation, 0, rows, threads);
    ptrdiff_t share = (rows + threads - 1) / threads;
    if (row_size == 1) share = (share + DROP_BLOCK - 1) / DROP_BLOCK * DROP_BLOCK; /* whole blocks */
    drop_team_work w = {.team = team, .part = part, .operation = operation, .rows = rows,
                        .share = share};
    team->parallel(drop_team_run, &w, (unsigned)threads, 0);
    return atomic_load(&w.failure);
}

typedef struct {
    const drop_kernels *kernels;
    const drop_mask *mask;
    drop_dtype dtype;
    const drop_arrays *arrays; /* at least one axis, or one element */
    ptrdiff_t row_size;        /* elements: a row has all axes but the first */
    const drop_numbers *affine; /* y = keep ? x * scale + shift : dropped */
    uint8_t *ones;             /* or, without arrays, where the keep bits go */
    int item;                  /* as numbers of so many bytes */
} drop_by_operation;

static inline int drop_affine_part(const void *operation, ptrdiff_t row, ptrdiff_t rows, int threads)
{
    const drop_by_operation *o = operation;
    const drop_numbers *numbers = o->affine;
    const uint64_t first = (uint64_t)(row * o->row_size);
    drop_arrays part = *o->arrays;
    if (part.ndim) {
        part.x += row * part.x_stride[0];
        part.y += row * part.y_stride[0];
        part.shape[0] = rows;
    }
    if (numbers->shift == 0 && numbers->dropped == 0)
        return drop_apply(o->kernels, o->mask, first, &part, o->dtype, numbers->scale, threads);
    drop_operation whole = {.mask = o->mask, .first = first, .at = {part.x}, .y = part.y,
                            .form = DROP_AFFINE, .dtype = o->dtype, .numbers = *numbers};
    drop_grid *grid = &whole.grid;
    grid->ndim = part.ndim;
    grid->arrays = 2;
    whole.mask_grid.arrays = 1;
    memcpy(grid->shape, part.shape, part.ndim * sizeof *part.shape);
    memcpy(grid->stride[0], part.y_stride, part.ndim * sizeof *part.y_stride);
    memcpy(grid->stride[1], part.x_stride, part.ndim * sizeof *part.x_stride);
    return drop_evaluate(o->kernels, &whole, threads);
}

static inline int drop_ones_part(const void *operation, ptrdiff_t row, ptrdiff_t rows, int threads)
{
    const drop_by_operation *o = operation;
    return drop_ones(o->kernels, o->mask, (uint64_t)row, (uint64_t)rows, o->ones + row * o->item, o->item,
                     threads);
}

/* y = keep ? x * scale + shift : dropped, from the mask's first element on. */
static inline int drop_affine_by(const drop_team *team, const drop_kernels *kernels,
                                 const drop_mask *mask, drop_arrays *arrays, drop_dtype dtype,
                                 const drop_numbers *affine, int threads)
{
    while (arrays->ndim > 1 && arrays->shape[0] == 1) { /* leave an axis that can be shared out */
        arrays->ndim--;
        memmove(arrays->shape, arrays->shape + 1, arrays->ndim * sizeof *arrays->shape);
        memmove(arrays->x_stride, arrays->x_stride + 1, arrays->ndim * sizeof *arrays->x_stride);
        memmove(arrays->y_stride, arrays->y_stride + 1, arrays->ndim * sizeof *arrays->y_stride);
    }
    ptrdiff_t row_size = 1;
    for (int i = 1; i < arrays->ndim; i++) row_size *= arrays->shape[i];
    drop_by_operation o = {.kernels = kernels, .mask = mask, .dtype = dtype, .arrays = arrays,
                           .row_size = row_size, .affine = affine};
    return drop_by(team, drop_affine_part, &o, arrays->ndim ? arrays->shape[0] : 1, row_size, threads);
}

/* Keep bits of the mask's first n elements, as drop_ones writes them. */
static inline int drop_ones_by(const drop_team *team, const drop_kernels *kernels, const drop_mask *mask,
                               uint64_t n, uint8_t *ones, int item, int threads)
{
    drop_by_operation o = {.kernels = kernels, .mask = mask, .ones = ones, .item = item};
    return drop_by(team, drop_ones_part, &o, (ptrdiff_t)n, 1, threads);
}

#endif
