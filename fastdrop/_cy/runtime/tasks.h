/* An operation's tasks, shared out among threads: those of a pool of our own, or of a team. */
#ifndef DROP_TASKS_H
#define DROP_TASKS_H

#include <stdatomic.h>
#include <stdint.h>

/* The runtime's GOMP_parallel, omp_get_thread_num and omp_get_num_threads (team.c). */
typedef void (*drop_team_region)(void (*run)(void *), void *context, unsigned threads, unsigned flags);
typedef int (*drop_team_number)(void);

typedef struct {
    drop_team_region parallel;
    drop_team_number member, size;
} drop_team;

typedef struct {
    int threads;           /* at most, the caller's included */
    const drop_team *team; /* whose they are; NULL: the pool's */
} drop_workers;

/* Returns 0, or why it failed. */
typedef int (*drop_task)(void *context, int64_t number);

/* Runs task(context, 0 .. count-1), each once. With one thread, or while another thread's operation has
 * the pool, the caller runs all tasks itself, in order. Returns 0, or what the first task to
 * fail returned; tasks that had not begun then may not have run. */
int drop_parallel(drop_workers by, int64_t count, drop_task task, void *context);

/* The two ways to run an operation's tasks, for drop_parallel. */
typedef struct {
    drop_task task;
    void *context;
    int64_t count;
    atomic_int failure;
} drop_tasks;

static inline int run_task(drop_tasks *tasks, int64_t number)
{
    int none = 0;
    const int status = tasks->task(tasks->context, number);
    if (status) atomic_compare_exchange_strong(&tasks->failure, &none, status);
    return status;
}

/* Tasks are claimed one by one, so a slow thread costs one task and not its share. Returns 0, with
 * nothing run, while another thread's operation has the pool. */
int drop_run_by_pool(drop_tasks *tasks, int threads);

/* Each thread has a share of neighbours. */
void drop_run_by_team(drop_tasks *tasks, drop_workers by);

#endif
