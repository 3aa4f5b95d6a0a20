/* Forms of samples, which have a draw each: contiguous arrays, one sample after the other. */
#include "drivers/work.h"

typedef struct {
    drop_work all;
    const drop_samples *samples;
    uint64_t each;  /* elements of a sample */
    uint64_t parts; /* tasks of a long sample */
} samples_work;

/* Keep bits of n elements from element `at` of all samples on, n at most PIECE. */
static int piece_bits(const samples_work *s, uint64_t at, uint64_t n, uint64_t *out)
{
    drop_mask mask = s->samples->mask;
    uint64_t sample = at / s->each, inside = at % s->each;
    for (uint64_t done = 0, take; done < n; done += take, inside = 0, sample++) {
        take = min_u64(s->each - inside, n - done);
        mask.draw = s->samples->draws[sample];
        const int status = drop_range_bits(s->all.kernels, &mask, s->all.op->first + inside, take, out, done);
        if (status) return status;
    }
    return 0;
}

static int short_task(void *context, int64_t number)
{
    const samples_work *s = context;
    const drop_work *w = &s->all;
    const uint64_t size = w->task_blocks * DROP_BLOCK, start = (uint64_t)number * size;
    const uint64_t end = min_u64(start + size, w->size);
    uint64_t keep[PIECE / 64];
    drop_cursor c;
    cursor_at(&c, &w->op->arrays, start);
    for (uint64_t at = start, n; at < end; at += n) {
        n = min_u64(PIECE, end - at);
        const int status = piece_bits(s, at, n, keep);
        if (status) return status;
        run_pieces(w, &c, keep, 0, n);
    }
    if (w->streaming) fence_streaming();
    return 0;
}

/* A part of a sample, as if it were alone. */
static int long_task(void *context, int64_t number)
{
    const samples_work *s = context;
    const uint64_t sample = (uint64_t)number / s->parts, part = (uint64_t)number % s->parts;
    const ptrdiff_t bytes = (ptrdiff_t)s->each * drop_item_size(s->all.op->arrays.dtype);
    drop_work one = s->all;
    drop_operation op = *s->all.op;
    drop_mask mask = s->samples->mask;
    mask.draw = s->samples->draws[sample];
    op.mask = &mask;
    op.arrays.shape[0] = (ptrdiff_t)s->each;
    for (int k = 0; k < op.arrays.count; k++) op.arrays.at[k] += (ptrdiff_t)sample * bytes;
    one.op = &op;
    one.size = s->each;
    return drop_rows_task(&one, (int64_t)part);
}

int drop_evaluate_samples(const drop_kernels *kernels, drop_operation *op, const drop_samples *samples,
                          drop_workers by)
{
    samples_work s = {.samples = samples};
    if (!drop_begin_work(&s.all, kernels, op, &by)) return 0;
    join_axes(&op->arrays);
    s.each = s.all.size / samples->count;
    const uint64_t blocks = (op->first % DROP_BLOCK + s.each + DROP_BLOCK - 1) / DROP_BLOCK;
    if (s.each < PIECE) {
        s.all.task_blocks = blocks_per_task((s.all.size + DROP_BLOCK - 1) / DROP_BLOCK, by);
        const uint64_t size = s.all.task_blocks * DROP_BLOCK;
        return drop_parallel(by, (int64_t)((s.all.size + size - 1) / size), short_task, &s);
    }
    op->mask = &samples->mask; /* whose generator decides; each task has a mask of its own */
    s.all.pipe = drop_find_pipe(kernels, op);
    s.all.task_blocks = blocks_per_task(blocks, by);
    s.parts = (blocks + s.all.task_blocks - 1) / s.all.task_blocks;
    return drop_parallel(by, (int64_t)(samples->count * s.parts), long_task, &s);
}
