#include "drivers/work.h"
#include "runtime/isa.h"

static void ask_for_inputs(const drop_work *w, const drop_cursor *c)
{
    const drop_arrays *a = &w->op->arrays;
    for (int k = 1; k < a->count; k++)
        for (ptrdiff_t i = 0; i < w->prefetch; i += 64) __builtin_prefetch(array_at(a, c, k) + i);
}

/* Elements at .. stop-1, the cursor's first: blocks of the mask in order, each applied at once. */
static int run_blocks(const drop_work *w, drop_cursor *c, uint64_t at, uint64_t stop)
{
    const drop_operation *op = w->op;
    for (uint64_t n; at < stop; at += n) {
        uint64_t keep[DROP_BLOCK_WORDS];
        const uint64_t bit = (op->first + at) % DROP_BLOCK;
        n = min_u64(DROP_BLOCK - bit, stop - at);
        ask_for_inputs(w, c);
        const int status = w->kernels->block_bits(op->mask, (op->first + at) / DROP_BLOCK, bit + n, keep);
        if (status) return status;
        run_pieces(w, c, keep, bit, bit + n);
    }
    if (w->streaming) fence_streaming();
    return 0;
}

int drop_rows_task(void *context, int64_t number)
{
    const drop_work *w = context;
    const drop_operation *op = w->op;
    const drop_arrays *a = &op->arrays;
    const uint64_t lead = op->first % DROP_BLOCK; /* elements of the first block before x's */
    const uint64_t from = (uint64_t)number * w->task_blocks * DROP_BLOCK;
    const uint64_t stop = min_u64(from + w->task_blocks * DROP_BLOCK - lead, w->size);
    uint64_t at = from > lead ? from - lead : 0;
    const uint64_t whole = (stop - at) / DROP_BLOCK;
    drop_cursor c;
    cursor_at(&c, a, at);
    if (w->pipe && whole > 1 &&
        w->pipe(op->mask, (op->first + at) / DROP_BLOCK, whole, array_at(a, &c, 1),
                op->form == DROP_ADD ? array_at(a, &c, 2) : NULL, array_at(a, &c, 0), op->numbers.scale,
                w->streaming, w->prefetch)) {
        drop_note_pipeline(w->kernels);
        at += whole * DROP_BLOCK;
        cursor_move(&c, a, 0, whole * DROP_BLOCK);
    }
    return run_blocks(w, &c, at, stop);
}

drop_pipe_run drop_find_pipe(const drop_kernels *kernels, const drop_operation *op)
{
    const drop_arrays *a = &op->arrays;
    if (op->first % DROP_BLOCK || (op->form != DROP_SCALE && op->form != DROP_ADD) || !is_contiguous(a)) return NULL;
    for (int i = 0; i < DROP_GENERATORS; i++)
        if (op->mask->fill == kernels->fill[i] && kernels->pipe[i]) return kernels->pipe[i][a->dtype];
    return NULL;
}

/* With rows along the last axis. */
static int run_by_rows(drop_work *w, drop_workers by)
{
    const uint64_t blocks = (w->op->first % DROP_BLOCK + w->size + DROP_BLOCK - 1) / DROP_BLOCK;
    if (blocks == 1) { /* small arrays pay for every step */
        drop_cursor c;
        cursor_at(&c, &w->op->arrays, 0);
        return run_blocks(w, &c, 0, w->size);
    }
    w->pipe = drop_find_pipe(w->kernels, w->op);
    w->task_blocks = blocks_per_task(blocks, by);
    return drop_parallel(by, (int64_t)((blocks + w->task_blocks - 1) / w->task_blocks), drop_rows_task, w);
}

int drop_begin_work(drop_work *w, const drop_kernels *kernels, drop_operation *op, drop_workers *by)
{
    const uint64_t size = count_elements(&op->arrays);
    *w = (drop_work){.kernels = kernels, .op = op, .size = size};
    if (size == 0) return 0;
    *by = workers_for(*by, size);
    if (is_uncached(&op->arrays, size)) {
        w->streaming = is_apart(&op->arrays);
        w->prefetch = PREFETCH;
    }
    return 1;
}

int drop_evaluate(const drop_kernels *kernels, drop_operation *op, drop_workers by)
{
    drop_arrays *a = &op->arrays;
    drop_work w;
    if (!drop_begin_work(&w, kernels, op, &by)) return 0;
    if (op->bits) return drop_by_bits(&w, by);
    join_axes(a);
    w.axis = fastest_axis(a);
    return w.axis == a->ndim - 1 ? run_by_rows(&w, by) : drop_by_bands(&w, by);
}
