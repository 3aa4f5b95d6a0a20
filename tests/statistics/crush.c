/* TestU01's batteries over bits from standard input, test by test.
 *
 *     cc -O2 -o crush crush.c -ltestu01 -ltestu01probdist -ltestu01mylib -lm
 *     python stream.py philox4x32 | ./crush small
 *     python stream.py philox4x32 | ./crush crush 1 2 17
 *     python stream.py philox4x32 | ./crush rabbit
 *
 * A line a statistic: its p-value and its name; then how many bytes were read. Without test
 * numbers all of the battery's tests run. The command "crush -r ..." reverses the bits of each
 * 32-bit number: most tests look at the upper ones only.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <TestU01.h>

static uint32_t buffer[1 << 16];
static size_t have, next;
static uint64_t numbers;
static int reverse;

static unsigned int number(void)
{
    if (next == have) {
        have = fread(buffer, sizeof *buffer, sizeof buffer / sizeof *buffer, stdin);
        next = 0;
        if (have == 0) {
            fprintf(stderr, "crush: the stream ended after %llu numbers\n", (unsigned long long)numbers);
            exit(2);
        }
    }
    uint32_t x = buffer[next++];
    numbers++;
    if (reverse) {
        x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
        x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
        x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
        x = __builtin_bswap32(x);
    }
    return x;
}

/* Bits that each of these two batteries' tests reads, at most. */
#define BITS 67108864.0 /* 2^26 */

static void rabbit(unif01_Gen *gen, int tests[]) { bbattery_RepeatRabbit(gen, BITS, tests); }
static void alphabit(unif01_Gen *gen, int tests[]) { bbattery_RepeatAlphabit(gen, BITS, 0, 32, tests); }

static const struct {
    const char *name;
    int tests;
    void (*run)(unif01_Gen *, int[]);
} batteries[] = {
    {"small", 10, bbattery_RepeatSmallCrush}, {"crush", 96, bbattery_RepeatCrush},
    {"big", 106, bbattery_RepeatBigCrush},    {"rabbit", 26, rabbit},
    {"alphabit", 9, alphabit},
};

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "-r")) {
        reverse = 1;
        argc--;
        argv++;
    }
    size_t b = 0, count = sizeof batteries / sizeof *batteries;
    while (argc > 1 && b < count && strcmp(argv[1], batteries[b].name)) b++;
    if (argc < 2 || b == count) {
        fprintf(stderr, "usage: crush [-r] small|crush|big|rabbit|alphabit [TEST ...] < BITS\n");
        return 2;
    }
    int tests[128] = {0};
    for (int i = 2; i < argc; i++) {
        const int test = atoi(argv[i]);
        if (test < 1 || test > batteries[b].tests) {
            fprintf(stderr, "crush: TEST must be between 1 and %d, but got %s\n", batteries[b].tests, argv[i]);
            return 2;
        }
        tests[test] = 1;
    }
    for (int i = 1; argc == 2 && i <= batteries[b].tests; i++) tests[i] = 1;

    swrite_Basic = FALSE; /* pages of parameters, and of what is left, which goes nowhere */
    FILE *report = fdopen(dup(1), "w");
    if (!report || !freopen("/dev/null", "w", stdout)) return 2;
    unif01_Gen *gen = unif01_CreateExternGenBits("standard input", number);
    batteries[b].run(gen, tests);
    for (int i = 0; i < bbattery_NTests; i++)
        fprintf(report, "%.10g %s\n", bbattery_pVal[i], bbattery_TestNames[i]);
    fprintf(report, "read %llu bytes\n", (unsigned long long)(4 * numbers));
    return fclose(report) != 0;
}
