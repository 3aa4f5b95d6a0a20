/* A pool of threads that share out the tasks of one operation. */
#ifndef DROP_POOL_H
#define DROP_POOL_H

#include <stdint.h>

typedef void (*drop_task)(void *context, int64_t task);

/* Runs task(context, 0 .. tasks-1), each once, in up to `threads` threads
 * including the caller's. Tasks are claimed one by one, so a slow thread costs
 * one task and not its share. With one thread, or while another thread's
 * operation has the pool, the caller runs all tasks itself, in order. */
void drop_parallel(int threads, int64_t tasks, drop_task task, void *context);

#endif
