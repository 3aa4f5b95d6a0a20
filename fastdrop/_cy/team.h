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

#include "operation.h"
#include "walk.h"

enum { TEAM_FROM = 1 << 16 }; /* elements: fewer are done before the threads have met */

/* The runtime's GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
typedef void (*drop_team_region)(void (*run)(void *), void *context, unsigned threads, unsigned flags);
typedef int (*drop_team_number)(void);

typedef struct {
    drop_team_region parallel;
    drop_team_number member, size;
} drop_team;

typedef struct {
    const drop_team *team;
    const drop_kernels *kernels;
    const drop_mask *mask;
    const drop_arrays *arrays; /* at least one axis */
    drop_dtype dtype;
    double scale;
    ptrdiff_t row_size, share; /* elements of a row, rows of a share: a row has all axes but the first */
    atomic_int failure;
} drop_team_work;

static inline void drop_team_run(void *context)
{
    drop_team_work *w = context;
    const drop_arrays *all = w->arrays;
    /* A runtime may give fewer threads than were asked for, so shares may be more than members. */
    const ptrdiff_t step = w->share * w->team->size();
    for (ptrdiff_t row = w->share * w->team->member(); row < all->shape[0]; row += step) {
        drop_arrays part = *all;
        part.x += row * all->x_stride[0];
        part.y += row * all->y_stride[0];
        part.shape[0] = all->shape[0] - row < w->share ? all->shape[0] - row : w->share;
        int none = 0, status = drop_apply(w->kernels, w->mask, (uint64_t)(row * w->row_size), &part,
                                          w->dtype, w->scale, 1);
        if (status) atomic_compare_exchange_strong(&w->failure, &none, status);
    }
}

/* drop_apply from the mask's first element on, by a team; without one, by our own pool. */
static inline int drop_apply_by(const drop_team *team, const drop_kernels *kernels,
                                const drop_mask *mask, drop_arrays *arrays, drop_dtype dtype,
                                double scale, int threads)
{
    while (arrays->ndim > 1 && arrays->shape[0] == 1) { /* leave an axis that can be shared out */
        arrays->ndim--;
        memmove(arrays->shape, arrays->shape + 1, arrays->ndim * sizeof *arrays->shape);
        memmove(arrays->x_stride, arrays->x_stride + 1, arrays->ndim * sizeof *arrays->x_stride);
        memmove(arrays->y_stride, arrays->y_stride + 1, arrays->ndim * sizeof *arrays->y_stride);
    }
    ptrdiff_t row_size = 1;
    for (int i = 1; i < arrays->ndim; i++) row_size *= arrays->shape[i];
    if (!team || threads <= 1 || arrays->ndim == 0 || arrays->shape[0] * row_size < TEAM_FROM)
        return drop_apply(kernels, mask, 0, arrays, dtype, scale, threads);
    ptrdiff_t share = (arrays->shape[0] + threads - 1) / threads;
    if (row_size == 1) share = (share + DROP_BLOCK - 1) / DROP_BLOCK * DROP_BLOCK; /* whole blocks */
    drop_team_work w = {.team = team, .kernels = kernels, .mask = mask, .arrays = arrays,
                        .dtype = dtype, .scale = scale, .row_size = row_size, .share = share};
    team->parallel(drop_team_run, &w, (unsigned)threads, 0);
    return atomic_load(&w.failure);
}

#endif
