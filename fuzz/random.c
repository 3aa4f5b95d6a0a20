/* Cases from random bytes: random INPUTS [SEED], or random FILE to run one again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

enum { LONGEST = 160 };

static uint64_t next(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int run_file(const char *path)
{
    uint8_t data[1 << 16];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 2;
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    return LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
    char *rest = NULL;
    const unsigned long long inputs = argc > 1 ? strtoull(argv[1], &rest, 10) : 0;
    if (argc < 2 || rest == argv[1] || *rest) return argc < 2 ? 2 : run_file(argv[1]);
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (unsigned long long i = 0; i < inputs; i++) {
        uint8_t data[LONGEST];
        const size_t size = next(&state) % (LONGEST + 1);
        for (size_t k = 0; k < sizeof data; k += 8) {
            uint64_t word = next(&state);
            memcpy(data + k, &word, 8);
        }
        /* A crash can be run again from this file. */
        FILE *file = NULL;
        const char *keep = getenv("FUZZ_LAST_INPUT");
        if (keep && (file = fopen(keep, "wb"))) {
            fwrite(data, 1, size, file);
            fclose(file);
        }
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%llu inputs, all right\n", inputs);
    return 0;
}
