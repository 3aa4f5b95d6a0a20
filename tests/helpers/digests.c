/* Prints a digest of what the kernels make of each case of a grid, a line a case.
 *
 * No Python: this runs wherever a C compiler builds it, natively or in an emulator.
 * test_portable.py has the reference backend recompute every line.
 *
 *     digests        the instruction sets that this build and this processor share
 *     digests ISA    the cases
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/evaluate.h"
#include "drivers/mask.h"
#include "drivers/noise.h"
#include "runtime/isa.h"

enum {
    ELEMENTS = 1 << 14, /* that a buffer has room for */
    MANY = 600000,      /* enough for several threads */
    DRAW = 5,           /* where every mask's words start */
    DIMS = 3,
};

#define HALF ((uint64_t)1 << 39) /* p = 1/2, as a threshold */
#define ONE (2 * HALF)

static const char *const generators[] = {"ars4x32", "philox4x32", "philox", "pcg64"};
/* All bits but the exponent's highest: without it there is no NaN and no infinity. Operands
 * have neither, because of two NaNs that are added it is the compiler who picks one. */
static uint64_t finite_bits(drop_dtype dtype)
{
    switch (dtype) {
    case DROP_F16: case DROP_BF16: return 0xbfffbfffbfffbfff;
    case DROP_F32: case DROP_C64: return 0xbfffffffbfffffff;
    default: return 0xbfffffffffffffff;
    }
}

static const drop_kernels *kernels;
static uint64_t key[6];

/* SplitMix64's step (Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators", OOPSLA 2014). */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* `bytes` must be a multiple of 8. */
static uint64_t digest(const void *data, size_t bytes)
{
    uint64_t sum = 0, word;
    for (size_t i = 0; i < bytes / 8; i++) {
        memcpy(&word, (const char *)data + 8 * i, 8);
        sum += mix(word ^ mix(i));
    }
    return sum;
}

/* A buffer of `bytes` random ones, `only` those bits of each word. */
static char *random_bytes(size_t bytes, uint64_t seed, uint64_t only)
{
    char *data = malloc(bytes);
    if (!data) abort();
    for (size_t i = 0; i < bytes / 8; i++) {
        const uint64_t word = mix((seed << 32) + i) & only;
        memcpy(data + 8 * i, &word, 8);
    }
    return data;
}

static drop_mask mask_of(const char *generator, uint64_t threshold)
{
    int code = 0;
    while (strcmp(generator, drop_generator_name((drop_generator)code))) code++;
    return (drop_mask){.fill = kernels->fill[code], .key = key, .draw = DRAW, .threshold = threshold};
}


static void print_axes(const char *name, int ndim, const ptrdiff_t *axes)
{
    for (int i = 0; i < ndim; i++) printf("%c%s%td", i ? ',' : ' ', i ? "" : name, axes[i]);
}

static void words(const char *generator, uint64_t position, uint64_t n)
{
    uint64_t out[1024];
    if (mask_of(generator, 0).fill(key, position, n, out)) abort();
    printf("op=words rng=%s position=%" PRIu64 " n=%" PRIu64 " digest=%016" PRIx64 "\n", generator,
           position, n, digest(out, n * 8));
}

static void bits(const char *generator, uint64_t threshold, uint64_t first, uint64_t n, int threads)
{
    const drop_mask mask = mask_of(generator, threshold);
    const size_t bytes = (n + 63) / 64 * 8;
    uint8_t *out = calloc(bytes, 1);
    if (!out || drop_bits(kernels, &mask, first, n, out, 0, (drop_workers){threads, NULL})) abort();
    printf("op=bits rng=%s threshold=%" PRIu64 " first=%" PRIu64 " n=%" PRIu64
           " threads=%d digest=%016" PRIx64 "\n", generator, threshold, first, n, threads,
           digest(out, bytes));
    free(out);
}

static double scale_of(uint64_t threshold) { return threshold ? (double)ONE / (double)threshold : 0; }

static const uint64_t draws[] = {DRAW, 7000001, 3};

enum { DRAWS = sizeof draws / sizeof *draws };

static drop_samples samples_of(uint64_t threshold)
{
    return (drop_samples){.mask = mask_of("ars4x32", threshold), .draws = draws, .count = DRAWS};
}

static void window(uint64_t threshold, uint64_t first, int ndim, const ptrdiff_t *shape, const ptrdiff_t *strides,
                   int threads)
{
    const drop_samples samples = samples_of(threshold);
    drop_arrays a = {.ndim = ndim, .count = 1};
    size_t n = DRAWS;
    for (int i = 0; i < ndim; i++) {
        a.shape[i] = shape[i], a.stride[0][i] = strides[i];
        n *= (size_t)shape[i];
    }
    uint64_t *out = calloc((n + 63) / 64, 8);
    if (!out || drop_window_bits(kernels, &samples, first, &a, out, (drop_workers){threads, NULL})) abort();
    printf("op=window threshold=%" PRIu64 " first=%" PRIu64 " threads=%d", threshold, first, threads);
    print_axes("shape=", ndim, shape);
    print_axes("strides=", ndim, strides);
    printf(" digest=%016" PRIx64 "\n", digest(out, (n + 63) / 64 * 8));
    free(out);
}

/* Dropout of samples of `each` elements. */
static void samples(uint64_t threshold, uint64_t first, uint64_t each, int threads)
{
    const drop_samples of = samples_of(threshold);
    const size_t n = DRAWS * (size_t)each, bytes = (4 * n + 7) / 8 * 8;
    char *x = random_bytes(bytes, 0, ~(uint64_t)0), *y = random_bytes(bytes, 1, ~(uint64_t)0);
    drop_operation op = {.first = first, .form = DROP_SCALE, .numbers = {.scale = scale_of(threshold)},
                         .arrays = {.ndim = 1, .count = 2, .dtype = DROP_F32, .at = {y, x}, .shape = {(ptrdiff_t)n},
                                    .stride = {{4}, {4}}}};
    if (drop_evaluate_samples(kernels, &op, &of, (drop_workers){threads, NULL})) abort();
    printf("op=samples threshold=%" PRIu64 " first=%" PRIu64 " each=%" PRIu64 " bytes=%zu digest=%016" PRIx64 "\n",
           threshold, first, each, bytes, digest(y, bytes));
    free(x), free(y);
}

/* Strides in elements, from element `x_at` or `y_at` on, and all that `skew` bytes later. */
typedef struct {
    int ndim;
    ptrdiff_t shape[DIMS], x[DIMS], y[DIMS];
    ptrdiff_t x_at, y_at;
    int skew, inplace;
} layout;

static const layout layouts[] = {
    {1, {5003}, {1}, {1}, 0, 0, 0, 0},                           /* contiguous */
    {1, {5003}, {1}, {1}, 0, 0, 0, 1},                           /* into itself */
    {1, {5003}, {1}, {1}, 3, 5, 1, 0},                           /* aligned to nothing */
    {1, {5003}, {-1}, {1}, 5002, 0, 0, 0},                       /* backwards */
    {2, {77, 64}, {128, 2}, {128, 2}, 0, 1, 0, 0},               /* every second column */
    {2, {20, 300}, {0, 1}, {300, 1}, 0, 0, 0, 0},                /* one row, broadcast */
    {2, {600, 27}, {1, 600}, {1, 600}, 0, 0, 0, 0},              /* Fortran order */
    {2, {600, 27}, {27, 1}, {1, 600}, 0, 0, 0, 0},               /* from C to Fortran order */
    {3, {5, 33, 70}, {2310, 1, 33}, {2310, 1, 33}, 0, 0, 0, 1},  /* channels last */
};

static void print_layout(const char *op, drop_dtype dtype, uint64_t threshold, uint64_t first,
                         const layout *l)
{
    printf("op=%s dtype=%s threshold=%" PRIu64 " first=%" PRIu64 " x_at=%td y_at=%td skew=%d inplace=%d",
           op, drop_dtype_name(dtype), threshold, first, l->x_at, l->y_at, l->skew, l->inplace);
    print_axes("shape=", l->ndim, l->shape);
    print_axes("x=", l->ndim, l->x);
    print_axes("y=", l->ndim, l->y);
}

/* The output and x at `x` and `y`, and operands that lie as x does, but aligned. */
static drop_arrays arrays_of(const layout *l, drop_dtype dtype, char *x, char *y, int count)
{
    const ptrdiff_t size = drop_item_size(dtype);
    drop_arrays a = {.ndim = l->ndim, .count = 2 + count, .dtype = dtype,
                     .at = {y + l->y_at * size + l->skew, x + l->x_at * size + l->skew}};
    for (int i = 0; i < l->ndim; i++) {
        a.shape[i] = l->shape[i];
        a.stride[0][i] = l->y[i] * size;
        for (int k = 1; k < a.count; k++) a.stride[k][i] = l->x[i] * size;
    }
    return a;
}

static void apply_by(const char *generator, drop_dtype dtype, uint64_t threshold, uint64_t first, const layout *l,
                     int threads)
{
    const size_t bytes = (threads > 1 ? (size_t)MANY : ELEMENTS) * (size_t)drop_item_size(dtype) + 64;
    char *x = random_bytes(bytes, 0, ~(uint64_t)0), *y = l->inplace ? x : random_bytes(bytes, 1, ~(uint64_t)0);
    const drop_mask mask = mask_of(generator, threshold);
    drop_operation op = {.mask = &mask, .first = first, .form = DROP_SCALE, .numbers = {.scale = scale_of(threshold)},
                         .arrays = arrays_of(l, dtype, x, y, 0)};
    if (drop_evaluate(kernels, &op, (drop_workers){threads, NULL})) abort();
    print_layout("apply", dtype, threshold, first, l);
    printf(" rng=%s bytes=%zu digest=%016" PRIx64 "\n", generator, bytes, digest(y, bytes));
    if (y != x) free(y);
    free(x);
}

static void apply(drop_dtype dtype, uint64_t threshold, uint64_t first, const layout *l, int threads)
{
    apply_by("ars4x32", dtype, threshold, first, l, threads);
}

/* A form under a mask in C order or, if `shared`, under one number for each row. */
static void evaluate(drop_form form, drop_dtype dtype, uint64_t threshold, const layout *l, int shared)
{
    const size_t bytes = ELEMENTS * (size_t)drop_item_size(dtype) + 64;
    const drop_mask mask = mask_of("ars4x32", threshold);
    const drop_workers alone = {1, NULL};
    const int operands = drop_form_operands(form);
    char *x = random_bytes(bytes, 0, ~(uint64_t)0), *y = l->inplace ? x : random_bytes(bytes, 1, ~(uint64_t)0);
    char *operand[] = {random_bytes(bytes, 2, finite_bits(dtype)), random_bytes(bytes, 3, finite_bits(dtype))};
    uint64_t packed[ELEMENTS / 64];
    drop_operation op = {.mask = &mask, .form = form, .numbers = {.scale = scale_of(threshold)},
                         .arrays = arrays_of(l, dtype, x, y, operands)};
    if (form == DROP_AFFINE) op.numbers.shift = 0.375, op.numbers.dropped = -1.25;
    for (int k = 0; k < operands; k++) op.arrays.at[2 + k] = operand[k] + l->x_at * drop_item_size(dtype);
    ptrdiff_t strides[DIMS], step = 1;
    for (int i = l->ndim - 1; i >= 0; i--) {
        op.bit_stride[i] = strides[i] = shared ? i == 0 : step;
        step *= l->shape[i];
    }
    if (shared) {
        if (drop_bits(kernels, &mask, 0, (uint64_t)l->shape[0], (uint8_t *)packed, 0, alone)) abort();
        op.bits = packed;
    }
    if (drop_evaluate(kernels, &op, alone)) abort();
    print_layout("evaluate", dtype, threshold, 0, l);
    print_axes("mask=", l->ndim, strides);
    printf(" form=%s shift=%g dropped=%g operands=%d bytes=%zu digest=%016" PRIx64 "\n", drop_form_name(form),
           op.numbers.shift, op.numbers.dropped, operands, bytes, digest(y, bytes));
    free(operand[0]), free(operand[1]), free(x);
    if (y != x) free(y);
}

static void noise(drop_dtype dtype, int factor, const layout *l, int threads)
{
    const size_t bytes = (threads > 1 ? (size_t)MANY : ELEMENTS) * (size_t)drop_item_size(dtype) + 64;
    char *x = random_bytes(bytes, 0, ~(uint64_t)0), *y = l->inplace ? x : random_bytes(bytes, 1, ~(uint64_t)0);
    const drop_noise noise = {.fill = kernels->fill[DROP_ARS4X32], .key = key, .draw = DRAW, .factor = factor, .spread = 0.375};
    drop_arrays a = arrays_of(l, dtype, x, y, 0);
    if (drop_add_noise(kernels, &noise, &a, (drop_workers){threads, NULL})) abort();
    print_layout("noise", dtype, HALF, 0, l);
    printf(" factor=%d spread=%g bytes=%zu digest=%016" PRIx64 "\n", factor, noise.spread, bytes,
           digest(y, bytes));
    if (y != x) free(y);
    free(x);
}

static void all_cases(void)
{
    /* None and all kept; one to eight planes; refinement, near 0 and 1 too. */
    static const uint64_t thresholds[] = {
        0, ONE, HALF, HALF / 2, ONE - HALF / 2, 5 * (HALF / 16), ONE / 256 * 255,
        ONE / 512 * 511, 989560464998, 732939019961, 109951162778, 3, ONE - 1,
    };
    static const uint64_t positions[] = {0, 1, 6, 4097, ((uint64_t)1 << 34) + 3, (uint64_t)-1100};
    for (size_t g = 0; g < sizeof generators / sizeof *generators; g++) {
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) words(generators[g], positions[i], 1001);
        for (size_t i = 0; i < sizeof thresholds / sizeof *thresholds; i++) {
            bits(generators[g], thresholds[i], 0, 20011, 1);
            bits(generators[g], thresholds[i], 4099, 1003, 1);
        }
    }
    bits("ars4x32", HALF / 8 * 7, 77, MANY, 3);
    static const ptrdiff_t shapes[][DIMS] = {{40, 100, 1}, {9, 7, 11}, {5, 3000, 1}, {700, 900, 1}};
    static const ptrdiff_t steps[][DIMS] = {{5000, 1, 0}, {9000, 70, 3}, {100000, 2, 0}, {1000, 1, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        window(HALF, 4099, 3, shapes[i], steps[i], 1);
        window(732939019961, 77, 3, shapes[i], steps[i], 3);
    }
    for (int i = 0; i < 2; i++) {
        samples(i ? HALF : 732939019961, 0, 70, 1);
        samples(i ? HALF : 732939019961, 4099, 9001, 1);
        samples(i ? HALF : 732939019961, 0, 50001, 1); /* each goes through the pipeline */
        samples(i ? HALF : 732939019961, 0, MANY / DRAWS, 3);
    }
    for (int d = 0; d < DROP_DTYPES; d++) {
        for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
            apply((drop_dtype)d, HALF, 0, &layouts[i], 1);
            apply((drop_dtype)d, 732939019961, 4099 + i, &layouts[i], 1);
        }
        for (int f = 0; f < DROP_FORMS; f++) {
            if (f != DROP_SCALE && !kernels->elements->form[f][d]) continue; /* of real numbers only */
            evaluate((drop_form)f, (drop_dtype)d, 732939019961, &layouts[f % 3], 0);
            evaluate((drop_form)f, (drop_dtype)d, HALF, &layouts[4], 0);
            evaluate((drop_form)f, (drop_dtype)d, HALF, &layouts[4], 1);
            evaluate((drop_form)f, (drop_dtype)d, 732939019961, &layouts[6 + f % 3], f % 2);
        }
        for (size_t i = 0; kernels->elements->noise[d] && i < sizeof layouts / sizeof *layouts; i++)
            noise((drop_dtype)d, i % 2, &layouts[i], 1);
    }
    /* Whole blocks, which two generators have a pipeline for: a half and a quarter
     * kept, two thirds, and four fifths, whose scale is one with which bfloat16 has to round halves. */
    static const layout blocks = {1, {3 * DROP_BLOCK + 100}, {1}, {1}, 3, 5, 0, 0};
    static const uint64_t kept[] = {HALF, HALF / 2, 732939019961, 879609302220};
    for (int d = 0; d < DROP_DTYPES; d++)
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            for (size_t g = 0; g < 2; g++) apply_by(generators[g], (drop_dtype)d, kept[i], 0, &blocks, 1);
    static const layout many = {1, {MANY}, {1}, {1}, 0, 0, 0, 0};
    static const layout columns = {2, {300, 2000}, {1, 300}, {1, 300}, 0, 0, 0, 0};
    apply(DROP_F32, 732939019961, 0, &many, 3);
    apply(DROP_F16, HALF, 0, &columns, 3);
    noise(DROP_F32, 1, &many, 3);
    noise(DROP_F64, 0, &columns, 3);
}

int main(int count, char **arguments)
{
    if (count < 2) {
        for (const char *const *name = drop_isa_names(); *name; name++) puts(*name);
        return 0;
    }
    kernels = drop_isa_kernels(arguments[1]);
    if (!kernels) {
        fprintf(stderr, "this build or this processor does not have %s\n", arguments[1]);
        return 1;
    }
    for (unsigned i = 0; i < 6; i++) key[i] = mix(1000 + i);
    key[3] |= 1; /* PCG64's increment is odd */
    all_cases();
    return 0;
}
