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

#include "kernels/kernels.h"

enum {
    BLOCKS_PER_TASK = 8, /* at least */
    TASKS_PER_THREAD = 8, /* so that a slow thread costs an eighth of its share */
    DROP_SERIAL_BELOW = 1 << 19, /* elements: waking a thread takes 40 us, and one is done before */
    /* Memory would idle while a block's bits are made, so this many bytes of x are
     * asked for before. More measured slower: the requests then hold up the work. */
    PREFETCH = 2048,
};

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

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

static inline int drop_item_size(drop_dtype dtype)
{
    static const int size[DROP_DTYPES] = {[DROP_F16] = 2, [DROP_BF16] = 2, [DROP_F32] = 4,
                                          [DROP_F64] = 8, [DROP_C64] = 8, [DROP_C128] = 16};
    return size[dtype];
}

static inline int is_uncached(int arrays, uint64_t elements, drop_dtype dtype)
{
    return (uint64_t)arrays * elements * (uint64_t)drop_item_size(dtype) > last_level_cache();
}

/* The pipeline for contiguous arrays under a mask, from an element of it on; NULL if there is none. */
static inline drop_pipe_run find_pipe(const drop_kernels *kernels, const drop_mask *mask, uint64_t first,
                                      drop_dtype dtype)
{
    return mask->fill == kernels->philox4x32 && first % DROP_BLOCK == 0 ? kernels->pipe[dtype] : NULL;
}

static inline uint64_t blocks_per_task(uint64_t blocks, int threads)
{
    const uint64_t n = threads > 1 ? blocks / ((uint64_t)threads * TASKS_PER_THREAD) : blocks;
    return n > BLOCKS_PER_TASK ? n : BLOCKS_PER_TASK;
}

/* Makes streamed stores visible to the thread that waits for this one. */
static inline void fence_streaming(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
