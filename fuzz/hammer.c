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
#include "drivers/mask.h"
#include "drivers/noise.h"
#include "runtime/isa.h"

enum { TASKS = 97, FAILING = 13, ROWS = 521, COLUMNS = 1031, SIZE = ROWS * COLUMNS }; /* enough for several threads */

static void fail(const char *what)
{
    fprintf(stderr, "wrong: %s\n", what);
    abort();
}

/* Tasks write plain memory, which the caller reads: the pool alone orders them. */
static int count(void *context, int64_t task)
{
    ((int *)context)[task]++;
    return 0;
}

/* Whatever else was running, the one that fails is reported, and some tasks need not run. */
static int count_and_fail(void *context, int64_t task)
{
    (void)count(context, task);
    return task == FAILING ? FAILING : 0;
}

static void tasks_run_once(int threads, int tasks)
{
    int done[TASKS] = {0};
    const drop_workers by = {threads, NULL};
    if (drop_parallel(by, tasks, count, done) != 0) fail("status of tasks");
    for (int i = 0; i < TASKS; i++)
        if (done[i] != (i < tasks)) fail("a task ran twice or not at all");
    if (drop_parallel(by, tasks, count_and_fail, done) != (tasks > FAILING ? FAILING : 0)) fail("failure of a task");
    for (int i = 0; i < TASKS; i++)
        if (done[i] > 2 * (i < tasks)) fail("a task ran twice");
}

static const uint64_t key[2] = {1, 2};

static const drop_kernels *kernels;

static drop_mask mask_of(uint64_t draw)
{
    return (drop_mask){.fill = kernels->fill[DROP_ARS4X32], .key = key, .draw = draw, .threshold = 770000000000};
}

enum { APPLY, ADD, NOISE, BITS, KINDS };

/* An operation, with rows along the last axis or the other one, or the bits, packed or as bytes. */
static void run(int kind, int other, uint64_t draw, int threads, float *x, float *y)
{
    const drop_mask mask = mask_of(draw);
    const drop_workers by = {threads, NULL};
    const ptrdiff_t item = sizeof *x, steps[2][2] = {{COLUMNS * item, item}, {item, ROWS * item}};
    drop_operation op = {.mask = &mask, .form = kind == ADD ? DROP_ADD : DROP_SCALE, .numbers = {2, 0, 0},
                         .arrays = {.ndim = 2, .count = kind == ADD ? 3 : 2, .dtype = DROP_F32,
                                    .at = {(char *)y, (char *)x, (char *)x}, .shape = {ROWS, COLUMNS}}};
    for (int k = 0; k < 3; k++) memcpy(op.arrays.stride[k], steps[other], sizeof *steps);
    const drop_noise noise = {.fill = mask.fill, .key = key, .draw = draw, .spread = 0.5};
    int status;
    if (kind == BITS) status = drop_bits(kernels, &mask, 0, SIZE, (uint8_t *)y, other, by);
    else if (kind == NOISE) status = drop_add_noise(kernels, &noise, &op.arrays, by);
    else status = drop_evaluate(kernels, &op, by);
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
        const int choice = (r + (int)caller) % (2 * KINDS), kind = choice / 2, other = choice % 2;
        const uint64_t draw = caller * 1000000u + (unsigned)r;
        memset(alone, 0, SIZE * sizeof *alone);
        memset(y, 0, SIZE * sizeof *y);
        run(kind, other, draw, 1, x, alone);
        run(kind, other, draw, 2 + r % 3, x, y);
        if (memcmp(alone, y, SIZE * sizeof *y) != 0) fail("several threads' result");
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
