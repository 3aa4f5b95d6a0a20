/* Threads that share the pool, for ThreadSanitizer: hammer ROUNDS [CALLERS].
 *
 * Every caller checks its own results, so a lost or repeated task is found with
 * and without a sanitizer; the sanitizer finds what is only wrong sometimes.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/evaluate.h"
#include "runtime/isa.h"
#include "runtime/pool.h"
#include "drivers/walk.h"

enum { TASKS = 97, ROWS = 521, COLUMNS = 1031, SIZE = ROWS * COLUMNS }; /* enough for several threads */

static void fail(const char *what)
{
    fprintf(stderr, "wrong: %s\n", what);
    abort();
}

/* Tasks write plain memory, which the caller reads: the pool alone orders them. */
static void count(void *context, int64_t task) { ((int *)context)[task]++; }

static void tasks_run_once(int threads, int tasks)
{
    int done[TASKS] = {0};
    drop_parallel(threads, tasks, count, done);
    for (int i = 0; i < TASKS; i++)
        if (done[i] != (i < tasks)) fail("a task ran twice or not at all");
}

static const uint64_t key[2] = {1, 2};

static const drop_kernels *kernels;

static drop_mask mask_of(uint64_t draw)
{
    return (drop_mask){.fill = kernels->philox4x32, .key = key, .draw = draw, .threshold = 770000000000};
}

/* An apply, in C order or with rows along the first axis, an evaluate, and the bits. */
static void run(int kind, uint64_t draw, int threads, const float *x, float *y)
{
    const drop_mask mask = mask_of(draw);
    const ptrdiff_t item = sizeof *x;
    int status;
    if (kind < 2) {
        drop_arrays a = {.ndim = 2, .x = (const char *)x, .y = (char *)y, .shape = {ROWS, COLUMNS}};
        a.x_stride[0] = a.y_stride[0] = kind ? item : COLUMNS * item;
        a.x_stride[1] = a.y_stride[1] = kind ? ROWS * item : item;
        status = drop_apply(kernels, &mask, 0, &a, DROP_F32, 2, threads);
    } else if (kind == 2) {
        drop_operation op = {.mask = &mask, .y = (char *)y, .at = {(const char *)x, (const char *)x},
                             .form = DROP_ADD, .dtype = DROP_F32, .numbers = {2, 0, 0},
                             .grid = {.ndim = 1, .arrays = 3, .shape = {SIZE}, .stride = {{item}, {item}, {item}}},
                             .mask_grid = {.ndim = 1, .arrays = 1, .shape = {SIZE}}};
        status = drop_evaluate(kernels, &op, threads);
    } else
        status = drop_bits(kernels, &mask, 0, SIZE, (uint8_t *)y, threads);
    if (status) fail("status");
}

static int rounds;

static void *call(void *number)
{
    const unsigned caller = (unsigned)(uintptr_t)number;
    float *x = malloc(SIZE * sizeof *x), *y = malloc(SIZE * sizeof *y), *alone = malloc(SIZE * sizeof *alone);
    if (!x || !y || !alone) abort();
    for (int i = 0; i < SIZE; i++) x[i] = (float)(i + 1);
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < 200; i++) tasks_run_once(1 + (r + i) % 5, (i * 7 + (int)caller) % (TASKS + 1));
        const int kind = (r + (int)caller) % 4;
        const uint64_t draw = caller * 1000000u + (unsigned)r;
        const size_t bytes = kind == 3 ? (SIZE + 7) / 8 : SIZE * sizeof *y;
        run(kind, draw, 1, x, alone);
        memset(y, 0xa5, bytes);
        run(kind, draw, 2 + r % 3, x, y);
        if (memcmp(alone, y, bytes) != 0) fail("several threads' result");
    }
    free(x);
    free(y);
    free(alone);
    return NULL;
}

int main(int argc, char **argv)
{
    rounds = argc > 1 ? atoi(argv[1]) : 10;
    const int callers = argc > 2 ? atoi(argv[2]) : 4;
    pthread_t thread[64];
    if (rounds < 1 || callers < 1 || callers > 64) return 2;
    kernels = drop_isa_kernels(NULL);
    for (int i = 0; i < callers; i++)
        if (pthread_create(&thread[i], NULL, call, (void *)(uintptr_t)i) != 0) abort();
    for (int i = 0; i < callers; i++) pthread_join(thread[i], NULL);
    printf("%d rounds of %d callers, all right\n", rounds, callers);
    return 0;
}
