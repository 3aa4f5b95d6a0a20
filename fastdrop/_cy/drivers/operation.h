/* What whole operations share: when to use threads, and how to go past the caches. */
#ifndef DROP_OPERATION_H
#define DROP_OPERATION_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "drivers/arrays.h"
#include "runtime/tasks.h"

enum {
    BLOCKS_PER_TASK = 8, /* at least */
    TASKS_PER_THREAD = 8, /* so that a slow thread costs an eighth of its share */
    /* Elements under a mask: fewer are done before other threads have begun. To wake one of the
     * pool's takes 40 us, and a team's only have to meet. */
    DROP_SERIAL_BELOW = 1 << 19,
    TEAM_SERIAL_BELOW = 1 << 16,
    /* Memory would idle while a block's bits are made, so this many bytes of each input are
     * asked for before. More measured slower: the requests then hold up the work. */
    PREFETCH = 2048,
};

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Those who share out work that takes as long as so many elements under a mask. */
static inline drop_workers workers_for(drop_workers by, uint64_t elements)
{
    if (elements < (by.team ? TEAM_SERIAL_BELOW : DROP_SERIAL_BELOW)) by.threads = 1;
    return by;
}

/* A team's thread has one task: what it had in an operation before, its core's cache still holds. */
static inline uint64_t blocks_per_task(uint64_t blocks, drop_workers by)
{
    const uint64_t threads = by.threads > 1 ? (uint64_t)by.threads : 1;
    if (by.team) return (blocks + threads - 1) / threads;
    const uint64_t n = threads > 1 ? blocks / (threads * TASKS_PER_THREAD) : blocks;
    return n > BLOCKS_PER_TASK ? n : BLOCKS_PER_TASK;
}

/* What Linux says of the third-level cache, in bytes; 0 if it says nothing. */
static inline long cache_by_linux(void)
{
    long size = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (file) {
        if (fscanf(file, "%ldK", &size) != 1) size = 0;
        fclose(file);
    }
    return size << 10;
}

/* The bytes above which no cache holds an operation's arrays. */
static inline uint64_t last_level_cache(void)
{
    static _Atomic uint64_t known; /* racing threads store the same number */
    uint64_t size = atomic_load_explicit(&known, memory_order_relaxed);
    if (size == 0) {
        long found = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
        found = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
        const long other = cache_by_linux(); /* virtual machines may report ten times as much */
        if (other > 0 && (found <= 0 || other < found)) found = other;
        size = found > 0 ? (uint64_t)found : (uint64_t)32 << 20;
        atomic_store_explicit(&known, size, memory_order_relaxed);
    }
    return size;
}

/* Inputs that are not the output itself. */
static inline int count_others(const drop_arrays *a)
{
    int others = 0;
    for (int k = 1; k < a->count; k++) others += a->at[k] != a->at[0];
    return others;
}

/* Whether no cache holds all arrays. */
static inline int is_uncached(const drop_arrays *a, uint64_t elements)
{
    const uint64_t bytes = (uint64_t)(1 + count_others(a)) * elements * (uint64_t)drop_item_size(a->dtype);
    return bytes > last_level_cache();
}

/* Whether no input is the output, whose old lines need not be read then. */
static inline int is_apart(const drop_arrays *a) { return count_others(a) == a->count - 1; }

/* Whether each array's elements lie side by side, once axes are joined. */
static inline int is_contiguous(const drop_arrays *a)
{
    int even = a->ndim == 1;
    for (int k = 0; k < a->count; k++) even &= a->stride[k][0] == drop_item_size(a->dtype);
    return even;
}

/* Makes streamed stores visible to the thread that waits for this one. */
static inline void fence_streaming(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
