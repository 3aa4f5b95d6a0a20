/* Scratch memory for the tasks of an operation: a part for each thread, allocated before anything is written. */
#ifndef DROP_SCRATCH_H
#define DROP_SCRATCH_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "drivers/evaluate.h"

enum { SCRATCH_ALIGNED = 64 };

typedef struct {
    char *memory, *first;
    atomic_flag *occupied;
    size_t bytes; /* of a part */
} drop_scratch;

static inline size_t aligned_bytes(size_t bytes)
{
    return (bytes + SCRATCH_ALIGNED - 1) / SCRATCH_ALIGNED * SCRATCH_ALIGNED;
}

/* Returns 0 or DROP_NO_MEMORY. */
static inline int make_scratch(drop_scratch *scratch, int threads, size_t bytes)
{
    const size_t count = threads > 1 ? (size_t)threads : 1;
    scratch->bytes = aligned_bytes(bytes + 1); /* never 0: a part's place is its number */
    scratch->memory = malloc(count * (scratch->bytes + sizeof *scratch->occupied) + SCRATCH_ALIGNED);
    if (!scratch->memory) return DROP_NO_MEMORY;
    scratch->first = scratch->memory + (-(uintptr_t)scratch->memory % SCRATCH_ALIGNED);
    scratch->occupied = (atomic_flag *)(scratch->first + count * scratch->bytes);
    for (size_t i = 0; i < count; i++) atomic_flag_clear(scratch->occupied + i);
    return 0;
}

static inline void free_scratch(drop_scratch *scratch) { free(scratch->memory); }

static inline char *take_scratch(const drop_scratch *scratch)
{
    size_t i = 0; /* one is free, for there are as many as threads */
    while (atomic_flag_test_and_set(scratch->occupied + i)) i++;
    return scratch->first + i * scratch->bytes;
}

static inline void give_scratch(const drop_scratch *scratch, const char *part)
{
    atomic_flag_clear(scratch->occupied + (size_t)(part - scratch->first) / scratch->bytes);
}

#endif
