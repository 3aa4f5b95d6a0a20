#include "drivers/words.h"

#include "drivers/operation.h"

enum {
    TASK_WORDS = 1 << 14, /* some 10 us: starting a generator costs a hundredth of that */
    COST = 4, /* of a word: as much time as so many elements under a mask take */
};

typedef struct {
    fastdrop_fill fill;
    const void *key;
    uint64_t position, n, *out;
} work;

static int words_task(void *context, int64_t number)
{
    const work *w = context;
    const uint64_t at = (uint64_t)number * TASK_WORDS;
    return fill_checked(w->fill, w->key, w->position + at, min_u64(TASK_WORDS, w->n - at), w->out + at);
}

int drop_words(fastdrop_fill fill, const void *key, uint64_t position, uint64_t n, uint64_t *out,
               drop_workers by)
{
    work w = {fill, key, position, n, out};
    by = workers_for(by, COST * n);
    return drop_parallel(by, (int64_t)((n + TASK_WORDS - 1) / TASK_WORDS), words_task, &w);
}
