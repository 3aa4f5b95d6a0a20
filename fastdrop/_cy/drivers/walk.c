#include "drivers/walk.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bits.h"
#include "drivers/operation.h"
#include "runtime/pool.h"

enum {
    /* A transposed band, whose mask bits (4 MB at most) are made at once. Its rows are long,
     * for each starts on pages of its own: with 512 elements it took twice as long. */
    BAND_ROWS = 4096,
    BAND_COLUMNS = 2 * DROP_BLOCK,
};

typedef struct {
    const drop_kernels *kernels;
    const drop_mask *mask;
    uint64_t first;
    const drop_arrays *a;
    uint64_t size;
    drop_apply_run run;
    drop_pipe_run pipe; /* for whole blocks of contiguous arrays, or NULL */
    double scale;
    int streaming;
    ptrdiff_t prefetch; /* bytes of x to ask for before a block's bits are made */
    int axis; /* along which rows run: the one with the smallest stride */
    uint64_t task_blocks; /* along rows */
    uint64_t columns, bands, chunks, band_rows, chunk_columns;
    uint64_t pitch;        /* bits from one row of a band to the next */
    uint64_t *band_bits;   /* room for one band for each thread, band_words long, */
    uint64_t band_words;
    atomic_flag *occupied; /* and which of them are in use */
    uint8_t *bits_out;
    int item;              /* bytes of a number in its place, or 0 */
    atomic_int failure;
} operation;

static ptrdiff_t distance(ptrdiff_t stride) { return stride < 0 ? -stride : stride; }

/* Drops axes of length 1 and joins neighbours that both arrays walk evenly. */
static void collapse(drop_arrays *a)
{
    int n = 0;
    for (int i = 0; i < a->ndim; i++) {
        if (a->shape[i] == 1) continue;
        if (n > 0 && a->x_stride[n - 1] == a->shape[i] * a->x_stride[i] &&
            a->y_stride[n - 1] == a->shape[i] * a->y_stride[i]) {
            a->shape[n - 1] *= a->shape[i];
        } else {
            a->shape[n] = a->shape[i];
            n++;
        }
        a->x_stride[n - 1] = a->x_stride[i];
        a->y_stride[n - 1] = a->y_stride[i];
    }
    if (n == 0) {
        a->shape[0] = 1;
        a->x_stride[0] = a->y_stride[0] = 0;
        n = 1;
    }
    a->ndim = n;
}

static int fastest_axis(const drop_arrays *a)
{
    int best = a->ndim - 1;
    for (int i = a->ndim - 2; i >= 0; i--)
        if (distance(a->y_stride[i]) < distance(a->y_stride[best])) best = i;
    return best;
}

/* A position in the axes from..to-1: where index `at`, in C order, lies. */
typedef struct {
    ptrdiff_t index[DROP_MAX_DIMS], x, y;
} cursor;

static void cursor_at(cursor *c, const drop_arrays *a, int from, int to, uint64_t at)
{
    c->x = c->y = 0;
    for (int i = to - 1; i >= from; i--) {
        c->index[i] = (ptrdiff_t)(at % (uint64_t)a->shape[i]);
        at /= (uint64_t)a->shape[i];
        c->x += c->index[i] * a->x_stride[i];
        c->y += c->index[i] * a->y_stride[i];
    }
}

/* Moves `n` on along axis to-1, not past its end, and on to the next row there. */
static void cursor_move(cursor *c, const drop_arrays *a, int from, int to, ptrdiff_t n)
{
    int i = to - 1;
    c->index[i] += n;
    c->x += n * a->x_stride[i];
    c->y += n * a->y_stride[i];
    for (; i > from && c->index[i] == a->shape[i]; i--) {
        c->x += a->x_stride[i - 1] - a->shape[i] * a->x_stride[i];
        c->y += a->y_stride[i - 1] - a->shape[i] * a->y_stride[i];
        c->index[i] = 0;
        c->index[i - 1]++;
    }
}

static void fail(operation *op, int status)
{
    int none = 0;
    atomic_compare_exchange_strong(&op->failure, &none, status);
}

/* The mask's elements start .. start+n-1 as bits 0 .. n-1 of `out`. */
static int range_bits(const operation *op, uint64_t start, uint64_t n, uint64_t *out)
{
    uint64_t done = 0, keep[DROP_BLOCK_WORDS];
    while (done < n) {
        uint64_t at = start + done, inside = at % DROP_BLOCK;
        uint64_t take = min_u64(DROP_BLOCK - inside, n - done);
        int status = op->kernels->block_bits(op->mask, at / DROP_BLOCK, inside + take, keep);
        if (status) return status;
        copy_bits(out, done, keep, inside, take);
        done += take;
    }
    return 0;
}

/* Rows along the last axis: blocks of the mask in order, each applied at once. */
static void row_task(void *context, int64_t task)
{
    operation *op = context;
    const int last = op->a->ndim - 1;
    const uint64_t lead = op->first % DROP_BLOCK; /* elements of the first block before x's */
    uint64_t block = op->first / DROP_BLOCK + (uint64_t)task * op->task_blocks;
    uint64_t from = (uint64_t)task * op->task_blocks * DROP_BLOCK;
    uint64_t at = from > lead ? from - lead : 0;
    uint64_t stop = min_u64(from + op->task_blocks * DROP_BLOCK - lead, op->size);
    const uint64_t whole = (stop - at) / DROP_BLOCK;
    cursor c;
    cursor_at(&c, op->a, 0, op->a->ndim, at);
    if (op->pipe && whole > 1 &&
        op->pipe(op->mask, block, whole, op->a->x + c.x, NULL, op->a->y + c.y, op->scale,
                 op->streaming, op->prefetch)) {
        at += whole * DROP_BLOCK;
        block += whole;
        cursor_move(&c, op->a, 0, op->a->ndim, (ptrdiff_t)(whole * DROP_BLOCK));
    }
    for (; at < stop; block++) {
        uint64_t keep[DROP_BLOCK_WORDS], piece[DROP_BLOCK_WORDS];
        uint64_t bit = (at + lead) % DROP_BLOCK, end = bit + min_u64(DROP_BLOCK - bit, stop - at);
        if (atomic_load_explicit(&op->failure, memory_order_relaxed)) return;
        for (ptrdiff_t i = 0; i < op->prefetch; i += 64) __builtin_prefetch(op->a->x + c.x + i);
        int status = op->kernels->block_bits(op->mask, block, end, keep);
        if (status) {
            fail(op, status);
            return;
        }
        while (bit < end) {
            uint64_t n = min_u64(end - bit, (uint64_t)(op->a->shape[last] - c.index[last]));
            const uint64_t *bits = keep + bit / 64;
            if (bit % 64) {
                copy_bits(piece, 0, keep, bit, n);
                bits = piece;
            }
            op->run(op->a->x + c.x, op->a->x_stride[last], op->a->y + c.y, op->a->y_stride[last],
                    (size_t)n, bits, op->scale, op->streaming);
            cursor_move(&c, op->a, 0, op->a->ndim, (ptrdiff_t)n);
            bit += n;
            at += n;
        }
    }
    if (op->streaming) fence_streaming();
}

/* Rows along an earlier axis, as in Fortran order. The axes before it pick a
 * matrix, the axes after it are that matrix' columns; its rows are neighbours in
 * memory and `columns` apart in the mask. A band's bits are made in the mask's
 * order and transposed, 64 by 64, into the rows' order. */
static void band_columns(const operation *op, const uint64_t *bits, uint64_t pitch, uint64_t rows,
                         uint64_t count, const char *x, char *y, cursor *c)
{
    uint64_t square[64], column[64][BAND_ROWS / 64];
    for (uint64_t first = 0; first < count; first += 64) {
        uint64_t width = min_u64(64, count - first);
        for (uint64_t row = 0; row < rows; row += 64) {
            for (uint64_t i = 0; i < 64; i++)
                square[i] = row + i < rows ? get_bits(bits, (row + i) * pitch + first, (unsigned)width) : 0;
            transpose_bits(square);
            for (uint64_t i = 0; i < width; i++) column[i][row / 64] = square[i];
        }
        for (uint64_t i = 0; i < width; i++) {
            op->run(x + c->x, op->a->x_stride[op->axis], y + c->y, op->a->y_stride[op->axis],
                    (size_t)rows, column[i], op->scale, 0);
            cursor_move(c, op->a, op->axis + 1, op->a->ndim, 1);
        }
    }
}

static void band_task(void *context, int64_t task)
{
    operation *op = context;
    const uint64_t chunk = (uint64_t)task % op->chunks, rest = (uint64_t)task / op->chunks;
    const uint64_t band = rest % op->bands, matrix = rest / op->bands;
    const uint64_t length = (uint64_t)op->a->shape[op->axis], row = band * op->band_rows;
    const uint64_t rows = min_u64(op->band_rows, length - row), column = chunk * op->chunk_columns;
    const uint64_t count = min_u64(op->chunk_columns, op->columns - column);
    const uint64_t start = op->first + (matrix * length + row) * op->columns + column;
    if (atomic_load_explicit(&op->failure, memory_order_relaxed)) return;

    unsigned room = 0; /* there is one, for there are as many as threads */
    while (atomic_flag_test_and_set(op->occupied + room)) room++;
    const uint64_t pitch = op->pitch;
    uint64_t *bits = op->band_bits + room * op->band_words;
    int status = 0;
    if (op->chunks == 1)
        status = range_bits(op, start, rows * pitch, bits);
    for (uint64_t r = 0; !status && op->chunks > 1 && r < rows; r++)
        status = range_bits(op, start + r * op->columns, count, bits + r * pitch / 64);
    if (status) fail(op, status);
    else {
        cursor outer, c;
        cursor_at(&outer, op->a, 0, op->axis, matrix);
        cursor_at(&c, op->a, op->axis + 1, op->a->ndim, column);
        ptrdiff_t along = (ptrdiff_t)row;
        band_columns(op, bits, pitch, rows, count, op->a->x + outer.x + along * op->a->x_stride[op->axis],
                     op->a->y + outer.y + along * op->a->y_stride[op->axis], &c);
    }
    atomic_flag_clear(op->occupied + room);
}

static int64_t plan_bands(operation *op, int threads)
{
    uint64_t length = (uint64_t)op->a->shape[op->axis], matrices = 1;
    op->columns = 1;
    for (int i = 0; i < op->axis; i++) matrices *= (uint64_t)op->a->shape[i];
    for (int i = op->axis + 1; i < op->a->ndim; i++) op->columns *= (uint64_t)op->a->shape[i];
    op->band_rows = min_u64(length, BAND_ROWS);
    op->bands = (length + op->band_rows - 1) / op->band_rows;
    op->chunk_columns = min_u64(op->columns, BAND_COLUMNS);
    if (matrices * op->bands < (uint64_t)threads) { /* a share for each, in whole strips */
        uint64_t share = op->columns / (uint64_t)threads / DROP_STRIP * DROP_STRIP;
        if (share > 0) op->chunk_columns = min_u64(op->chunk_columns, share);
    }
    op->chunks = (op->columns + op->chunk_columns - 1) / op->chunk_columns;
    op->pitch = op->chunks == 1 ? op->columns : (op->chunk_columns + 63) / 64 * 64;
    /* A word more, for reads of 64 bits that start in the last one. */
    op->band_words = op->band_rows * op->pitch / 64 + 2;
    return (int64_t)(matrices * op->bands * op->chunks);
}

/* Takes all memory that tasks need before the first one writes. */
static int run_bands(operation *op, int threads)
{
    const int64_t tasks = plan_bands(op, threads);
    const size_t rooms = (size_t)(threads < tasks ? threads : tasks);
    op->band_bits = malloc(rooms * (op->band_words * sizeof *op->band_bits + sizeof *op->occupied));
    if (!op->band_bits) return DROP_NO_MEMORY;
    op->occupied = (atomic_flag *)(op->band_bits + rooms * op->band_words);
    for (size_t i = 0; i < rooms; i++) atomic_flag_clear(op->occupied + i);
    drop_parallel(threads, tasks, band_task, op);
    free(op->band_bits);
    return atomic_load(&op->failure);
}

int drop_apply(const drop_kernels *kernels, const drop_mask *mask, uint64_t first,
               drop_arrays *arrays, drop_dtype dtype, double scale, int threads)
{
    operation op = {.kernels = kernels, .mask = mask, .first = first, .a = arrays, .size = 1,
                    .run = kernels->apply[dtype], .scale = scale};
    for (int i = 0; i < arrays->ndim; i++) op.size *= (uint64_t)arrays->shape[i];
    if (op.size == 0) return 0;
    collapse(arrays);
    op.axis = fastest_axis(arrays);
    const int uncached = is_uncached(arrays->x == arrays->y ? 1 : 2, op.size, dtype);
    op.streaming = uncached && arrays->x != arrays->y;
    op.prefetch = uncached ? PREFETCH : 0;
    if (op.size < DROP_SERIAL_BELOW) threads = 1;
    if (op.axis == arrays->ndim - 1) {
        const ptrdiff_t item = drop_item_size(dtype);
        if (arrays->ndim == 1 && arrays->x_stride[0] == item && arrays->y_stride[0] == item)
            op.pipe = find_pipe(kernels, mask, first, dtype);
        uint64_t blocks = (first % DROP_BLOCK + op.size + DROP_BLOCK - 1) / DROP_BLOCK;
        op.task_blocks = blocks_per_task(blocks, threads);
        drop_parallel(threads, (int64_t)((blocks + op.task_blocks - 1) / op.task_blocks), row_task, &op);
    } else {
        return run_bands(&op, threads);
    }
    return atomic_load(&op.failure);
}

static void bits_task(void *context, int64_t task)
{
    operation *op = context;
    enum { TASK_BITS = BLOCKS_PER_TASK * DROP_BLOCK };
    uint64_t words[TASK_BITS / 64], at = (uint64_t)task * TASK_BITS;
    uint64_t n = min_u64(TASK_BITS, op->size - at);
    int status = range_bits(op, op->first + at, n, words);
    if (status) fail(op, status);
    else if (op->item) op->kernels->ones[op->item - 1](words, n, op->bits_out + at * (uint64_t)op->item);
    else memcpy(op->bits_out + at / 8, words, (n + 7) / 8);
}

static int write_bits(operation *op, int threads)
{
    if (op->size < DROP_SERIAL_BELOW) threads = 1;
    uint64_t task_bits = BLOCKS_PER_TASK * DROP_BLOCK;
    drop_parallel(threads, (int64_t)((op->size + task_bits - 1) / task_bits), bits_task, op);
    return atomic_load(&op->failure);
}

int drop_bits(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int threads)
{
    operation op = {.kernels = kernels, .mask = mask, .first = first, .size = n, .bits_out = out};
    return write_bits(&op, threads);
}

int drop_ones(const drop_kernels *kernels, const drop_mask *mask, uint64_t first, uint64_t n,
              uint8_t *out, int item, int threads)
{
    operation op = {.kernels = kernels, .mask = mask, .first = first, .size = n, .bits_out = out,
                    .item = item};
    return write_bits(&op, threads);
}
