/* What whole operations share: when to use threads, and how to go past the caches. */
#ifndef DROP_OPERATION_H
#define DROP_OPERATION_H

#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels.h"

enum {
    BLOCKS_PER_TASK = 8,
    SERIAL_BELOW = 1 << 19, /* elements: waking a thread takes 40 us, and one is done before */
    /* Memory would idle while a block's bits are made, so this many bytes of x are
     * asked for before. More measured slower: the requests then hold up the work. */
    PREFETCH = 2048,
};

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* The bytes above which no cache holds an array. */
static inline uint64_t last_level_cache(void)
{
    static _Atomic uint64_t known; /* racing threads store the same number */
    uint64_t size = atomic_load_explicit(&known, memory_order_relaxed);
    if (size == 0) {
        long found = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
        found = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
        size = found > 0 ? (uint64_t)found : (uint64_t)32 << 20;
        atomic_store_explicit(&known, size, memory_order_relaxed);
    }
    return size;
}

static inline int is_uncached(uint64_t elements, drop_dtype dtype)
{
    static const int item_size[DROP_DTYPES] = {[DROP_F16] = 2, [DROP_BF16] = 2, [DROP_F32] = 4,
                                               [DROP_F64] = 8, [DROP_C64] = 8, [DROP_C128] = 16};
    return elements * (uint64_t)item_size[dtype] > last_level_cache();
}

/* Makes streamed stores visible to the thread that waits for this one. */
static inline void fence_streaming(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
