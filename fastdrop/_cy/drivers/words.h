/* A generator's words themselves, many at once. */
#ifndef DROP_WORDS_H
#define DROP_WORDS_H

#include "include/fastdrop_rng.h"
#include "runtime/tasks.h"

/* Words position .. position+n-1. Returns 0, or what `fill` returned if it failed. */
int drop_words(fastdrop_fill fill, const void *key, uint64_t position, uint64_t n, uint64_t *out,
               drop_workers by);

#endif
