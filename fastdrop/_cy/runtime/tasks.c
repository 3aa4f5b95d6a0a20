#include "runtime/tasks.h"

int drop_parallel(drop_workers by, int64_t count, drop_task task, void *context)
{
    drop_tasks tasks = {.task = task, .context = context, .count = count};
    if (by.threads > count) by.threads = (int)count;
    if (by.threads > 1 && by.team) drop_run_by_team(&tasks, by);
    else if (by.threads <= 1 || !drop_run_by_pool(&tasks, by.threads))
        for (int64_t i = 0; i < count && !run_task(&tasks, i);) i++;
    return atomic_load(&tasks.failure);
}
