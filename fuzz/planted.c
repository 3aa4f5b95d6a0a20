/* Faults on purpose: a finder that does not report them finds nothing. planted FAULT */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/isa.h"
#include "runtime/tasks.h"

enum { N = 1000 };

/* A kernel that is told of one element more than there are. */
static void overflow(void)
{
    const uint64_t keep[(N + 1 + 63) / 64] = {1};
    float *x = calloc(N + 1, sizeof *x), *y = malloc(N * sizeof *y);
    drop_isa_kernels("baseline")->elements->apply[DROP_F32]((char *)x, 4, (char *)y, 4, N + 1, keep, 2, 0);
    free(x);
    free(y);
}

/* A branch on what a kernel made of memory that nobody wrote to. */
static void uninitialised(void)
{
    const uint64_t keep[(N + 63) / 64] = {~(uint64_t)0};
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    drop_isa_kernels("baseline")->elements->apply[DROP_F32]((char *)x, 4, (char *)y, 4, N, keep, 2, 0);
    if (y[0] > 1) puts("large");
    free(x);
    free(y);
}

static void leak(void)
{
    for (int i = 0; i < 100; i++) memset(malloc(N), i, N);
}

static void undefined(void)
{
    volatile int most = INT_MAX;
    printf("%d\n", most + 1);
}

static int shared;

static int increment(void *context, int64_t task)
{
    (void)context;
    for (int i = 0; i < 1000; i++) shared += (int)task;
    return 0;
}

static void race(void)
{
    for (int i = 0; i < 1000; i++) drop_parallel((drop_workers){2, NULL}, 64, increment, NULL);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } faults[] = {
        {"overflow", overflow}, {"uninitialised", uninitialised}, {"leak", leak},
        {"undefined", undefined}, {"race", race}};
    for (size_t i = 0; argc == 2 && i < sizeof faults / sizeof *faults; i++)
        if (strcmp(argv[1], faults[i].name) == 0) {
            faults[i].run();
            return 0;
        }
    return 2;
}
