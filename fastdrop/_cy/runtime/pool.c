/* OpenMP would be shorter, and was not taken: its runtime hangs a forked child
 * that enters a parallel region, two copies of it in one process (a wheel's
 * beside torch's) slow each other down a hundredfold, and its static shares wait for the
 * slowest thread. docs/design.md has the measurements.
 */
#include "runtime/tasks.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ __volatile__("yield")
#else
#define PAUSE() ((void)0)
#endif

enum {
    MOST_WORKERS = 255,
    SPINS = 2000, /* some 20-50 us of looking for the next operation before sleeping */
    STACK = 8 << 20, /* bytes: musl's default of 128 KB and macOS' of 512 are little for a plug-in's fill */
};

/* Waiting for something that is about to happen; on a processor that has more
 * threads than cores it may be waiting for this core. */
static void wait_a_little(int *spins)
{
    if (++*spins % SPINS) PAUSE();
    else sched_yield();
}

/* Workers enter an operation through one word: whether it is open, how many
 * more may enter, and how many are inside. The caller closes it and then waits
 * for those inside only, never for a worker that has not woken up. */
#define OPEN ((uint32_t)1 << 31)
#define PLACE ((uint32_t)1 << 16)
#define PLACES (OPEN - PLACE)
#define INSIDE (PLACE - 1)

static atomic_uint gate;
static atomic_int sleepers;
static atomic_llong next_task;
static atomic_llong task_count;
static drop_tasks *open_tasks;
static unsigned task_rounding;

static int workers;
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER; /* held while an operation runs */
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t alarm = PTHREAD_COND_INITIALIZER;

/* Whether subnormal numbers are flushed to zero is a thread's own setting: a
 * worker has to take over the caller's, or results would depend on who computed them. */
static unsigned get_rounding(void)
{
#if defined(__x86_64__)
    return _mm_getcsr();
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr;
#else
    return 0;
#endif
}

static void set_rounding(unsigned rounding)
{
#if defined(__x86_64__)
    _mm_setcsr(rounding);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"((uint64_t)rounding));
#else
    (void)rounding;
#endif
}

static void run_tasks(void)
{
    long long number;
    while ((number = atomic_fetch_add(&next_task, 1)) < task_count)
        if (run_task(open_tasks, number)) atomic_store(&next_task, task_count); /* no more of them */
}

static int may_enter(uint32_t g)
{
    return (g & OPEN) && (g & PLACES);
}

static int enter(void)
{
    uint32_t g = atomic_load(&gate);
    while (may_enter(g))
        if (atomic_compare_exchange_weak(&gate, &g, g - PLACE + 1)) return 1;
    return 0;
}

static void sleep_until_open(void)
{
    pthread_mutex_lock(&bed);
    atomic_fetch_add(&sleepers, 1);
    while (!may_enter(atomic_load(&gate)))
        pthread_cond_wait(&alarm, &bed);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&bed);
}

static void *work(void *unused)
{
    (void)unused;
    for (;;) {
        int spins = 0;
        while (!enter()) {
            if (++spins < SPINS) {
                PAUSE();
                continue;
            }
            sleep_until_open();
            spins = 0;
        }
        set_rounding(task_rounding);
        run_tasks();
        atomic_fetch_sub(&gate, 1);
        /* The operation may stay open after its last task is claimed: look away. */
        for (spins = 0; may_enter(atomic_load(&gate)) && atomic_load(&next_task) >= task_count;)
            wait_a_little(&spins);
    }
    return NULL;
}

/* A forked child has none of its parent's workers, and locks in any state. */
static void forget_workers(void)
{
    workers = 0;
    atomic_store(&gate, 0);
    atomic_store(&sleepers, 0);
    pthread_mutex_init(&busy, NULL);
    pthread_mutex_init(&bed, NULL);
    pthread_cond_init(&alarm, NULL);
}

/* Signals are for the program's own threads. A program that blocks one in all its
 * threads, to wait for it, does not know of these: one that let it in would die of it.
 * Those that say what a thread itself did wrong must come through. */
static void block_signals(sigset_t *before)
{
    sigset_t blocked;
    sigfillset(&blocked);
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    for (unsigned i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

static void hire(int wanted)
{
    if (workers >= wanted) return;
    static int fork_handled;
    if (!fork_handled) fork_handled = pthread_atfork(NULL, NULL, forget_workers) == 0;
    if (!fork_handled) return;
    if (wanted > MOST_WORKERS) wanted = MOST_WORKERS;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    sigset_t before;
    block_signals(&before); /* a new thread blocks what its maker blocks */
    while (workers < wanted && pthread_create(&thread, &attributes, work, NULL) == 0)
        workers++; /* fewer will do */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

int drop_run_by_pool(drop_tasks *tasks, int threads)
{
    if (pthread_mutex_trylock(&busy) != 0) return 0;
    hire(threads - 1);
    int helpers = workers < threads - 1 ? workers : threads - 1;
    open_tasks = tasks;
    task_rounding = get_rounding();
    atomic_store(&task_count, tasks->count);
    atomic_store(&next_task, 0);
    atomic_store(&gate, OPEN | (uint32_t)helpers * PLACE);
    if (atomic_load(&sleepers) > 0) {
        pthread_mutex_lock(&bed);
        pthread_cond_broadcast(&alarm);
        pthread_mutex_unlock(&bed);
    }
    run_tasks();
    atomic_fetch_and(&gate, INSIDE);
    for (int spins = 0; atomic_load(&gate) & INSIDE;)
        wait_a_little(&spins);
    pthread_mutex_unlock(&busy);
    return 1;
}
