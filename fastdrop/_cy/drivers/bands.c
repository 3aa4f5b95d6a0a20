/* Rows along an earlier axis than the last, as in Fortran order. The axes before it pick a
 * matrix, the axes after it are that matrix' columns; its rows are neighbours in
 * memory and `columns` apart in the mask. A band's bits are made in the mask's
 * order and transposed, 64 by 64, into the rows' order. */
#include <string.h>

#include "drivers/mask.h"
#include "drivers/scratch.h"
#include "drivers/work.h"

enum {
    /* A band, whose mask bits (4 MB at most) are made at once. Its rows are long,
     * for each starts on pages of its own: with 512 elements it took twice as long. */
    BAND_ROWS = 4096,
    BAND_COLUMNS = 2 * DROP_BLOCK,
};

typedef struct {
    drop_work all;
    uint64_t columns, bands, chunks, band_rows, chunk_columns;
    uint64_t pitch; /* bits from one row of a band to the next */
    drop_scratch scratch; /* for one band's bits */
} bands_work;

static void run_columns(const drop_work *w, drop_cursor *c, const uint64_t *bits, uint64_t pitch,
                        uint64_t rows, uint64_t count)
{
    uint64_t square[64], column[64][BAND_ROWS / 64];
    for (uint64_t first = 0; first < count; first += 64) {
        const uint64_t width = min_u64(64, count - first);
        for (uint64_t row = 0; row < rows; row += 64) {
            for (uint64_t i = 0; i < 64; i++)
                square[i] = row + i < rows ? get_bits(bits, (row + i) * pitch + first, (unsigned)width) : 0;
            transpose_bits(square);
            for (uint64_t i = 0; i < width; i++) column[i][row / 64] = square[i];
        }
        for (uint64_t i = 0; i < width; i++) {
            run_piece(w, c, rows, column[i]);
            cursor_move(c, &w->op->arrays, w->axis + 1, 1);
        }
    }
}

/* Whether all arrays hold one short column right after the other: channels-last images with few
 * channels, for instance. Then many columns are one run of elements. */
static int has_short_columns(const drop_work *w)
{
    const drop_arrays *a = &w->op->arrays;
    int even = w->axis == a->ndim - 2 && a->shape[w->axis] <= 64;
    for (int k = 0; k < a->count && even; k++)
        even = a->stride[k][w->axis + 1] == a->shape[w->axis] * a->stride[k][w->axis];
    return even;
}

/* The bits of a byte, so many apart: at most 8, so that 64 bits hold them. */
static uint64_t spread_byte(uint64_t byte, uint64_t apart)
{
    uint64_t out = 0;
    for (uint64_t i = 0; i < 8; i++) out |= (byte >> i & 1) << i * apart;
    return out;
}

enum { COLUMNS_ROOM = DROP_BLOCK / 64 + 2 }; /* words, of which a store may write one too many */

/* Bits of whole columns, up to 64 times 64, one column after the other. */
static void join_columns(const uint64_t *bits, uint64_t pitch, uint64_t rows, uint64_t first, uint64_t count,
                       const uint64_t *spread, uint64_t *out)
{
    for (uint64_t done = 0; done < count; done += 64) {
        const unsigned width = (unsigned)min_u64(64, count - done);
        uint64_t square[64] = {0};
        for (uint64_t i = 0; i < rows; i++) square[i] = get_bits(bits, i * pitch + first + done, width);
        if (rows > 8) {
            transpose_bits(square);
            for (uint64_t i = 0; i < width; i++) copy_bits(out, (done + i) * rows, square + i, 0, rows);
            continue;
        }
        for (unsigned i = 0; i < width; i += 8) { /* 8 columns have as many bytes as there are rows */
            uint64_t columns = 0;
            for (uint64_t r = 0; r < rows; r++) columns |= spread[square[r] >> i & 0xff] << r;
            memcpy((char *)out + (done + i) / 8 * rows, &columns, sizeof columns);
        }
    }
}

static void run_short_columns(const drop_work *w, drop_cursor *c, const uint64_t *bits, uint64_t pitch,
                              uint64_t rows, uint64_t count)
{
    uint64_t keep[COLUMNS_ROOM], spread[256];
    const uint64_t most = DROP_BLOCK / 64 / rows * 64; /* columns at once */
    for (uint64_t byte = 0; rows <= 8 && byte < 256; byte++) spread[byte] = spread_byte(byte, rows);
    for (uint64_t first = 0, width; first < count; first += width) {
        width = min_u64(most, count - first);
        join_columns(bits, pitch, rows, first, width, spread, keep);
        run_piece(w, c, width * rows, keep);
        cursor_move(c, &w->op->arrays, w->axis + 1, width);
    }
}

static int make_bits(const bands_work *b, uint64_t start, uint64_t rows, uint64_t count, uint64_t *bits)
{
    const drop_kernels *kernels = b->all.kernels;
    const drop_mask *mask = b->all.op->mask;
    int status = 0;
    if (b->chunks == 1) return drop_range_bits(kernels, mask, start, rows * count, bits, 0);
    for (uint64_t r = 0; r < rows && !status; r++)
        status = drop_range_bits(kernels, mask, start + r * b->columns, count, bits, r * b->pitch);
    return status;
}

static int band_task(void *context, int64_t number)
{
    const bands_work *b = context;
    const drop_work *w = &b->all;
    const drop_arrays *a = &w->op->arrays;
    const uint64_t chunk = (uint64_t)number % b->chunks, rest = (uint64_t)number / b->chunks;
    const uint64_t band = rest % b->bands, matrix = rest / b->bands;
    const uint64_t length = (uint64_t)a->shape[w->axis], row = band * b->band_rows;
    const uint64_t rows = min_u64(b->band_rows, length - row), column = chunk * b->chunk_columns;
    const uint64_t count = min_u64(b->chunk_columns, b->columns - column);
    const uint64_t start = (matrix * length + row) * b->columns + column;

    char *part = take_scratch(&b->scratch);
    uint64_t *bits = (uint64_t *)part;
    const int status = make_bits(b, w->op->first + start, rows, count, bits);
    if (!status) {
        drop_cursor c;
        cursor_at(&c, a, start);
        if (has_short_columns(w)) run_short_columns(w, &c, bits, b->pitch, rows, count);
        else run_columns(w, &c, bits, b->pitch, rows, count);
    }
    give_scratch(&b->scratch, part);
    return status;
}

/* Returns how many tasks there are. */
static int64_t plan(bands_work *b, int threads)
{
    const drop_arrays *a = &b->all.op->arrays;
    const int axis = b->all.axis;
    const uint64_t length = (uint64_t)a->shape[axis];
    uint64_t matrices = 1;
    b->columns = 1;
    for (int i = 0; i < axis; i++) matrices *= (uint64_t)a->shape[i];
    for (int i = axis + 1; i < a->ndim; i++) b->columns *= (uint64_t)a->shape[i];
    b->band_rows = min_u64(length, BAND_ROWS);
    b->bands = (length + b->band_rows - 1) / b->band_rows;
    b->chunk_columns = min_u64(b->columns, BAND_COLUMNS);
    if (matrices * b->bands < (uint64_t)threads) { /* a share for each, in whole strips */
        const uint64_t share = b->columns / (uint64_t)threads / DROP_STRIP * DROP_STRIP;
        if (share > 0) b->chunk_columns = min_u64(b->chunk_columns, share);
    }
    b->chunks = (b->columns + b->chunk_columns - 1) / b->chunk_columns;
    b->pitch = b->chunks == 1 ? b->columns : (b->chunk_columns + 63) / 64 * 64;
    return (int64_t)(matrices * b->bands * b->chunks);
}

/* Takes all memory that tasks need before the first one writes. */
int drop_by_bands(drop_work *work, drop_workers by)
{
    bands_work b = {.all = *work};
    b.all.streaming = 0;
    const int64_t tasks = plan(&b, by.threads);
    /* A word more, for reads of 64 bits that start in the last one. */
    const size_t words = b.band_rows * b.pitch / 64 + 2;
    int status = make_scratch(&b.scratch, by.threads < tasks ? by.threads : (int)tasks, words * sizeof(uint64_t));
    if (status) return status;
    status = drop_parallel(by, tasks, band_task, &b);
    free_scratch(&b.scratch);
    return status;
}
