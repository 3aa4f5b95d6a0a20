#include "drivers/mask.h"

#include <string.h>

#include "drivers/operation.h"
#include "kernels/bits.h"

typedef struct {
    const drop_kernels *kernels;
    const drop_mask *mask;
    uint64_t first, n, task_size;
    uint8_t *out;
    int item;
} work;

int drop_range_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
                    uint64_t *out, uint64_t to)
{
    uint64_t keep[DROP_BLOCK_WORDS];
    for (uint64_t take; n > 0; first += take, to += take, n -= take) {
        const uint64_t inside = first % DROP_BLOCK;
        take = min_u64(DROP_BLOCK - inside, n);
        uint64_t *bits = take == DROP_BLOCK && to % 64 == 0 ? out + to / 64 : keep;
        const int status = kernels->block_bits(mask, first / DROP_BLOCK, inside + take, bits);
        if (status) return status;
        if (bits == keep) copy_bits(out, to, keep, inside, take);
    }
    return 0;
}

static int bits_task(void *context, int64_t number)
{
    const work *w = context;
    uint64_t words[BLOCKS_PER_TASK * DROP_BLOCK_WORDS], at = (uint64_t)number * w->task_size;
    const uint64_t n = min_u64(w->task_size, w->n - at);
    const int status = drop_range_bits(w->kernels, w->mask, w->first + at, n, words, 0);
    if (status) return status;
    if (w->item) w->kernels->elements->ones[w->item - 1](words, n, w->out + at * (uint64_t)w->item);
    else memcpy(w->out + at / 8, words, (n + 7) / 8);
    return 0;
}

int drop_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int item, drop_workers by)
{
    if (n == 0) return 0;
    work w = {.kernels = kernels, .mask = mask, .first = first, .n = n, .out = out, .item = item};
    const uint64_t blocks = (n + DROP_BLOCK - 1) / DROP_BLOCK;
    by = workers_for(by, n);
    w.task_size = DROP_BLOCK * min_u64(blocks_per_task(blocks, by), BLOCKS_PER_TASK);
    return drop_parallel(by, (int64_t)((n + w.task_size - 1) / w.task_size), bits_task, &w);
}
