/* After a parallel region an OpenMP team's threads look for the next one for
 * milliseconds, at full speed. Threads of our own would share cores with them and
 * do worse than one thread alone. So an operation among another library's
 * runs on that library's team, and in that library's shares: thread t takes
 * the t-th part of the tasks, which the operation before left in its core's cache.
 */
#include "runtime/tasks.h"

typedef struct {
    drop_tasks *tasks;
    const drop_team *team;
} region;

static void run_share(void *context)
{
    const region *r = context;
    /* A runtime may give fewer threads than were asked for. */
    const int64_t count = r->tasks->count, member = r->team->member(), size = r->team->size();
    const int64_t end = count * (member + 1) / size;
    for (int64_t i = count * member / size; i < end && !atomic_load(&r->tasks->failure); i++)
        run_task(r->tasks, i);
}

void drop_run_by_team(drop_tasks *tasks, drop_workers by)
{
    region r = {tasks, by.team};
    by.team->parallel(run_share, &r, (unsigned)by.threads, 0);
}
