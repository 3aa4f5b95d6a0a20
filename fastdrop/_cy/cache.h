/* How large an array has to be for no cache to hold it. */
#ifndef DROP_CACHE_H
#define DROP_CACHE_H

#include <stdint.h>
#include <unistd.h>

static inline uint64_t last_level_cache(void)
{
    static uint64_t size; /* racing threads store the same number */
    if (size == 0) {
        long found = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
        found = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
        size = found > 0 ? (uint64_t)found : (uint64_t)32 << 20;
    }
    return size;
}

#endif
