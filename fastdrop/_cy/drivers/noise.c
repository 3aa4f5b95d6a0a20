#include "drivers/noise.h"

#include <stdatomic.h>
#include <string.h>

#include "drivers/operation.h"
#include "runtime/pool.h"

/* Elements are taken in pieces that lie in a row of words. Where they lie in a row of memory too,
 * a piece is worked on in place; else it goes through buffers, which are filled in memory's order. */
enum {
    PIECE = 2048,
    TASK = 8 * PIECE,
    TILE_ROWS = 32, /* along memory, of arrays in another order */
    TILE_WORDS = PIECE / TILE_ROWS,
    ALONE_BELOW = 1 << 16, /* elements: waking a thread takes as long */
};

typedef struct {
    ptrdiff_t length, x, y, word; /* steps in bytes, and in words */
} axis;

typedef struct {
    const drop_noise *noise;
    drop_noise_run run;
    axis axes[DROP_MAX_DIMS];
    int ndim, memory; /* the axis with memory's smallest steps */
    const char *x;
    char *y;
    int size, streaming;
    uint64_t elements, head;
    atomic_int failure;
} work;

/* Drops axes of length 1 and joins neighbours that both arrays walk evenly. */
static void look_at_axes(work *w, const drop_arrays *a)
{
    uint64_t word = 1;
    axis found[DROP_MAX_DIMS];
    int n = 0;
    for (int i = a->ndim - 1; i >= 0; i--) {
        const ptrdiff_t length = a->shape[i], x = a->x_stride[i], y = a->y_stride[i];
        axis *inner = found + n - 1;
        if (length != 1) {
            if (n && x == inner->length * inner->x && y == inner->length * inner->y)
                inner->length *= length;
            else found[n++] = (axis){length, x, y, (ptrdiff_t)word};
        }
        word *= (uint64_t)length;
    }
    if (n == 0) found[n++] = (axis){1, w->size, w->size, 1};
    for (int i = 0; i < n; i++) w->axes[i] = found[n - 1 - i];
    w->ndim = n;
    w->elements = word;
    w->memory = n - 1;
    for (int i = 0; i < n; i++) {
        const ptrdiff_t step = w->axes[i].y, least = w->axes[w->memory].y;
        if ((step < 0 ? -step : step) < (least < 0 ? -least : least)) w->memory = i;
    }
}

static void copy_item(char *to, const char *from, int size)
{
    if (size == 4) memcpy(to, from, 4);
    else if (size == 8) memcpy(to, from, 8);
    else memcpy(to, from, 2);
}

/* Copies rows x columns elements: rows outside, with the steps of both. */
static void copy_block(char *to, ptrdiff_t to_row, ptrdiff_t to_column, const char *from,
                       ptrdiff_t from_row, ptrdiff_t from_column, uint64_t rows, uint64_t columns,
                       int size)
{
    for (uint64_t r = 0; r < rows; r++, to += to_row, from += from_row) {
        if (to_column == size && from_column == size) memcpy(to, from, columns * (uint64_t)size);
        else
            for (uint64_t c = 0; c < columns; c++)
                copy_item(to + (ptrdiff_t)c * to_column, from + (ptrdiff_t)c * from_column, size);
    }
}

static int fill_words(const work *w, uint64_t at, uint64_t n, uint64_t *words)
{
    return fill_checked(w->noise->fill, w->noise->key, w->noise->draw + at, n, words);
}

/* Where the element that takes word `at` lies, along all axes but those that are left out. */
static void place(const work *w, uint64_t at, ptrdiff_t *x, ptrdiff_t *y)
{
    *x = *y = 0;
    for (int i = 0; i < w->ndim; i++) {
        const axis *a = w->axes + i;
        const ptrdiff_t index = (ptrdiff_t)(at / (uint64_t)a->word) % a->length;
        *x += index * a->x;
        *y += index * a->y;
    }
}

/* The elements of a piece whose words are at .. at+n-1, by rows of the last axis. */
static int piece_of_rows(const work *w, uint64_t at, uint64_t n)
{
    const axis *last = w->axes + w->ndim - 1;
    const int size = w->size;
    uint64_t words[PIECE];
    char in[PIECE * 8], out[PIECE * 8];
    ptrdiff_t x, y;
    int status = fill_words(w, at, n, words);
    if (status) return status;
    uint64_t left = (uint64_t)last->length - at % (uint64_t)last->length;
    if (n <= left && last->x == size && last->y == size) {
        place(w, at, &x, &y);
        w->run(words, w->x + x, w->y + y, n, w->noise->factor, w->noise->spread, w->streaming);
        return 0;
    }
    for (uint64_t done = 0, take; done < n; done += take, left = (uint64_t)last->length) {
        take = min_u64(left, n - done);
        place(w, at + done, &x, &y);
        copy_block(in + done * (uint64_t)size, 0, size, w->x + x, 0, last->x, 1, take, size);
    }
    w->run(words, in, out, n, w->noise->factor, w->noise->spread, 0);
    left = (uint64_t)last->length - at % (uint64_t)last->length;
    for (uint64_t done = 0, take; done < n; done += take, left = (uint64_t)last->length) {
        take = min_u64(left, n - done);
        place(w, at + done, &x, &y);
        copy_block(w->y + y, 0, last->y, out + done * (uint64_t)size, 0, size, 1, take, size);
    }
    return 0;
}

static void row_task(void *context, int64_t number)
{
    work *w = context;
    uint64_t at = number ? (uint64_t)number * TASK + w->head : 0;
    const uint64_t end = min_u64(((uint64_t)number + 1) * TASK + w->head, w->elements);
    /* The first elements up to where y is aligned make a piece of their own. */
    for (uint64_t n; at < end; at += n) {
        n = at < w->head ? w->head : min_u64(PIECE, end - at);
        if (atomic_load_explicit(&w->failure, memory_order_relaxed)) return;
        int none = 0, status = piece_of_rows(w, at, n);
        if (status) atomic_compare_exchange_strong(&w->failure, &none, status);
    }
    if (w->streaming) fence_streaming();
}

static uint64_t tiles_along(const work *w, int i)
{
    const uint64_t length = (uint64_t)w->axes[i].length;
    if (i == w->memory) return (length + TILE_ROWS - 1) / TILE_ROWS;
    if (i == w->ndim - 1) return (length + TILE_WORDS - 1) / TILE_WORDS;
    return length;
}

/* A tile spans the axis that words follow each other along, and the one that memory does. */
static void tile_task(void *context, int64_t number)
{
    work *w = context;
    const axis *last = w->axes + w->ndim - 1, *memory = w->axes + w->memory;
    const int size = w->size;
    uint64_t words[PIECE], rest = (uint64_t)number, at = 0, rows = 0, columns = 0;
    char in[PIECE * 8], out[PIECE * 8];
    ptrdiff_t x, y;
    for (int i = w->ndim - 1; i >= 0; i--) {
        const uint64_t tiles = tiles_along(w, i), tile = rest % tiles, length = (uint64_t)w->axes[i].length;
        uint64_t index = tile;
        if (i == w->memory) {
            index *= TILE_ROWS;
            rows = min_u64(TILE_ROWS, length - index);
        } else if (i == w->ndim - 1) {
            index *= TILE_WORDS;
            columns = min_u64(TILE_WORDS, length - index);
        }
        at += index * (uint64_t)w->axes[i].word;
        rest /= tiles;
    }
    if (atomic_load_explicit(&w->failure, memory_order_relaxed)) return;
    for (uint64_t r = 0; r < rows; r++) {
        int none = 0, status = fill_words(w, at + r * (uint64_t)memory->word, columns, words + r * columns);
        if (status) {
            atomic_compare_exchange_strong(&w->failure, &none, status);
            return;
        }
    }
    place(w, at, &x, &y);
    const ptrdiff_t pitch = (ptrdiff_t)columns * size; /* of the buffers, where rows follow words */
    copy_block(in, size, pitch, w->x + x, last->x, memory->x, columns, rows, size);
    w->run(words, in, out, rows * columns, w->noise->factor, w->noise->spread, 0);
    copy_block(w->y + y, last->y, memory->y, out, size, pitch, columns, rows, size);
}

int drop_add_noise(const drop_kernels *kernels, const drop_noise *noise, drop_arrays *arrays,
                   drop_dtype dtype, int threads)
{
    work w = {.noise = noise, .run = kernels->noise[dtype], .x = arrays->x, .y = arrays->y,
              .size = drop_item_size(dtype)};
    look_at_axes(&w, arrays);
    if (w.elements == 0) return 0;
    if (w.elements < ALONE_BELOW) threads = 1;
    if (w.memory == w.ndim - 1) {
        if (w.ndim == 1 && w.axes[0].y == w.size && is_uncached(2, w.elements, dtype)) {
            w.streaming = w.x != w.y;
            w.head = -(uintptr_t)w.y % 64 / (uint64_t)w.size;
        }
        const uint64_t past = w.elements > w.head ? w.elements - w.head : 1;
        drop_parallel(threads, (int64_t)((past + TASK - 1) / TASK), row_task, &w);
    } else {
        uint64_t tiles = 1;
        for (int i = 0; i < w.ndim; i++) tiles *= tiles_along(&w, i);
        drop_parallel(threads, (int64_t)tiles, tile_task, &w);
    }
    return atomic_load(&w.failure);
}
