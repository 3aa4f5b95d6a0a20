#include "drivers/noise.h"

#include <string.h>

#include "drivers/operation.h"

/* Elements are taken in pieces that lie in a row of words. Where they lie in a row of memory too,
 * a piece is worked on in place; else it goes through a buffer, which is filled in memory's order. */
enum {
    PIECE = 2048,
    TASK = 8 * PIECE,
    TILE_ROWS = 32, /* along memory, of arrays in another order */
    TILE_WORDS = PIECE / TILE_ROWS,
    COST = 8, /* of an element: as much time as so many under a mask take */
};

typedef struct {
    const drop_noise *noise;
    const drop_arrays *a;
    drop_noise_run run;
    uint64_t size, head; /* elements, and those up to where the output is aligned */
    int item, streaming;
    int memory; /* the axis along which memory runs */
} work;

static int make_words(const work *w, uint64_t at, uint64_t n, uint64_t *words)
{
    return fill_checked(w->noise->fill, w->noise->key, w->noise->draw + at, n, words);
}

static void run(const work *w, const uint64_t *words, const char *x, char *y, uint64_t n, int streaming)
{
    w->run(words, x, y, n, w->noise->factor, w->noise->spread, streaming);
}

static void copy_items(char *to, ptrdiff_t to_step, const char *from, ptrdiff_t from_step, uint64_t n, int item)
{
    if (to_step == item && from_step == item) memcpy(to, from, n * (uint64_t)item);
    else
        for (; n; n--, to += to_step, from += from_step) {
            if (item == 4) memcpy(to, from, 4);
            else if (item == 8) memcpy(to, from, 8);
            else memcpy(to, from, 2);
        }
}

/* Copies elements that follow each other along an axis from x to a buffer, or from there to the output. */
static void copy_row(const work *w, const drop_cursor *c, int axis, char *buffer, ptrdiff_t step, uint64_t n,
                     int is_output)
{
    const drop_arrays *a = w->a;
    if (is_output) copy_items(array_at(a, c, 0), a->stride[0][axis], buffer, step, n, w->item);
    else copy_items(buffer, step, array_at(a, c, 1), a->stride[1][axis], n, w->item);
}

static void copy_rows(const work *w, uint64_t at, uint64_t n, char *buffer, int is_output)
{
    drop_cursor c;
    cursor_at(&c, w->a, at);
    for (uint64_t take; n; n -= take, buffer += take * (uint64_t)w->item) {
        take = min_u64(n, row_left(&c, w->a));
        copy_row(w, &c, w->a->ndim - 1, buffer, w->item, take, is_output);
        cursor_move(&c, w->a, 0, take);
    }
}

/* The elements whose words are at .. at+n-1, by rows of the last axis. */
static int run_piece(const work *w, uint64_t at, uint64_t n)
{
    const drop_arrays *a = w->a;
    const int last = a->ndim - 1;
    uint64_t words[PIECE];
    char buffer[PIECE * sizeof(double)];
    drop_cursor c;
    const int status = make_words(w, at, n, words);
    if (status) return status;
    cursor_at(&c, a, at);
    if (n <= row_left(&c, a) && a->stride[0][last] == w->item && a->stride[1][last] == w->item) {
        run(w, words, array_at(a, &c, 1), array_at(a, &c, 0), n, w->streaming);
        return 0;
    }
    copy_rows(w, at, n, buffer, 0);
    run(w, words, buffer, buffer, n, 0);
    copy_rows(w, at, n, buffer, 1);
    return 0;
}

static int row_task(void *context, int64_t number)
{
    const work *w = context;
    uint64_t at = number ? (uint64_t)number * TASK + w->head : 0;
    const uint64_t end = min_u64(((uint64_t)number + 1) * TASK + w->head, w->size);
    int status = 0;
    /* The first elements up to where the output is aligned make a piece of their own. */
    for (uint64_t n; at < end && !status; at += n) {
        n = at < w->head ? w->head : min_u64(PIECE, end - at);
        status = run_piece(w, at, n);
    }
    if (w->streaming) fence_streaming();
    return status;
}

/* A tile spans the axis that words follow each other along, and the one that memory does. */
static uint64_t tile_length(const work *w, int axis)
{
    if (axis == w->memory) return TILE_ROWS;
    return axis == w->a->ndim - 1 ? TILE_WORDS : 1;
}

static uint64_t tiles_along(const work *w, int axis)
{
    const uint64_t tile = tile_length(w, axis);
    return ((uint64_t)w->a->shape[axis] + tile - 1) / tile;
}

static int tile_task(void *context, int64_t number)
{
    const work *w = context;
    const drop_arrays *a = w->a;
    const int last = a->ndim - 1;
    uint64_t words[PIECE], rest = (uint64_t)number, at = 0, step = 1, row_step = 1;
    uint64_t rows = 1, columns = 1;
    char buffer[PIECE * sizeof(double)];
    drop_cursor c;
    for (int i = last; i >= 0; step *= (uint64_t)a->shape[i--]) {
        const uint64_t index = rest % tiles_along(w, i) * tile_length(w, i);
        const uint64_t length = min_u64(tile_length(w, i), (uint64_t)a->shape[i] - index);
        if (i == w->memory) rows = length, row_step = step;
        else if (i == last) columns = length;
        at += index * step;
        rest /= tiles_along(w, i);
    }
    for (uint64_t r = 0; r < rows; r++) {
        const int status = make_words(w, at + r * row_step, columns, words + r * columns);
        if (status) return status;
    }
    /* In the buffer, rows follow words: memory's elements lie `pitch` apart. */
    const ptrdiff_t pitch = (ptrdiff_t)columns * w->item;
    for (int is_output = 0; is_output < 2; is_output++) {
        cursor_at(&c, a, at);
        for (uint64_t i = 0; i < columns; i++) {
            copy_row(w, &c, w->memory, buffer + i * (uint64_t)w->item, pitch, rows, is_output);
            cursor_move(&c, a, last, 1);
        }
        if (!is_output) run(w, words, buffer, buffer, rows * columns, 0);
    }
    return 0;
}

int drop_add_noise(const drop_kernels *kernels, const drop_noise *noise, drop_arrays *a, drop_workers by)
{
    work w = {.noise = noise, .a = a, .run = kernels->elements->noise[a->dtype], .size = count_elements(a),
              .item = drop_item_size(a->dtype)};
    if (w.size == 0) return 0;
    join_axes(a);
    w.memory = fastest_axis(a);
    by = workers_for(by, COST * w.size);
    if (w.memory == a->ndim - 1) {
        if (a->ndim == 1 && a->stride[0][0] == w.item && is_uncached(a, w.size)) {
            w.streaming = is_apart(a);
            w.head = -(uintptr_t)a->at[0] % 64 / (uint64_t)w.item;
        }
        const uint64_t past = w.size > w.head ? w.size - w.head : 1;
        return drop_parallel(by, (int64_t)((past + TASK - 1) / TASK), row_task, &w);
    }
    uint64_t tiles = 1;
    for (int i = 0; i < a->ndim; i++) tiles *= tiles_along(&w, i);
    return drop_parallel(by, (int64_t)tiles, tile_task, &w);
}
