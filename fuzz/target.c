/* One fuzz case: bytes become an operation on arrays of any layout, and its result
 * is compared with the oracle's, byte for byte, with all that lies around it.
 *
 * Arrays lie against pages that may not be touched, at their end or at their
 * start, and the rest of their memory is poisoned and compared as well. The
 * entry point is libFuzzer's; random.c calls it where there is no libFuzzer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "attention.h"
#include "drivers/evaluate.h"
#include "drivers/mask.h"
#include "drivers/noise.h"
#include "oracle.h"
#include "runtime/isa.h"
#include "target.h"

/* Sanitizers are for the kernels; this file and the oracle run at full speed beside them. */
#if defined(FUZZ_ASAN)
#define __SANITIZE_ADDRESS__ 1
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#endif

enum {
    PAGE = 1 << 16,        /* of any architecture */
    ARENA = 1 << 23,
    MARGIN = 256,          /* poisoned bytes on the side that has no guard page */
    SLACK = 64,            /* most bytes that an array may lie off a page's end or start */
    DIMS = 5,
    SMALL = 1 << 11, USUAL = 3 * DROP_BLOCK, LARGE = 1 << 17, /* elements */
    POISON = 0xa5,
    FAILED = 77, /* what a failing generator returns */
};

/* --- Reading the input ------------------------------------------------------------------ */

typedef struct {
    const uint8_t *at, *end;
} input;

static uint8_t u8(input *in) { return in->at < in->end ? *in->at++ : 0; }

static uint64_t u64(input *in)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v = v << 8 | u8(in);
    return v;
}

#define PICK(in, table) ((table)[u8(in) % (sizeof(table) / sizeof *(table))])

/* A number that is likely to lie next to a boundary. */
static uint64_t position(input *in)
{
    static const int shifts[] = {64, 40, 24, 16, 12, 9, 6, 1};
    uint64_t v = u64(in) >> PICK(in, shifts) % 64;
    switch (u8(in) % 4) {
    case 0: return v >> 1;
    case 1: return (v % 64) * DROP_BLOCK + u8(in) % 5 - (v % 64 ? 2 : 0);
    case 2: return v % 9;
    default: return v % 100000;
    }
}

static double number(input *in)
{
    static const double usual[] = {0, 1, 2, -1, 0.5, 10. / 9, 1e-300, 1e300, -1.7580993408473766};
    if (u8(in) % 4) return PICK(in, usual);
    uint64_t bits = u64(in);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d == d ? d : 1; /* kernels' numbers are checked before: never a NaN */
}

/* A value for each element; all bit patterns, so NaN, infinity and subnormals too. */
static uint64_t mix(uint64_t n)
{
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9u;
    n = (n ^ n >> 27) * 0x94d049bb133111ebu;
    return n ^ n >> 31;
}

/* --- Random streams --------------------------------------------------------------------- */

static int fill_mixed(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    uint64_t k;
    memcpy(&k, key, sizeof k);
    for (uint64_t i = 0; i < n; i++) out[i] = mix(k + position + i);
    return 0;
}

/* Few different words: every comparison with a threshold has its equals, and
 * refinement ranges are used up and used again. */
static int fill_ties(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    uint64_t k;
    memcpy(&k, key, sizeof k);
    for (uint64_t i = 0; i < n; i++)
        out[i] = k >> (position + i) % 64 & 1 ? ~(uint64_t)0 : mix(position + i) & mix(position + i + k);
    return 0;
}

static int fill_failing(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    (void)fill_mixed(key, position, n, out);
    return FAILED;
}

static fastdrop_fill pick_fill(input *in, const drop_kernels *kernels)
{
    switch (u8(in) % 8) {
    case 0: return kernels->fill[DROP_PHILOX];
    case 1: return kernels->fill[DROP_PCG64];
    case 2: return fill_ties;
    case 3: return u8(in) % 4 ? fill_mixed : fill_failing;
    case 4: return fill_mixed;
    case 5: return kernels->fill[DROP_PHILOX4X32];
    default: return kernels->fill[DROP_ARS4X32];
    }
}

static uint64_t pick_threshold(input *in)
{
    const uint64_t one = (uint64_t)1 << 40, any = u64(in) % (one + 1);
    switch (u8(in) % 8) {
    case 0: return one / 2;
    case 1: return (any % 255 + 1) << 32; /* 1 to 8 planes */
    case 2: return any % 3;
    case 3: return one - any % 3;
    case 4: return (any % 255 + 1) << 32 | (u8(in) % 2 ? 1 : 0xffffffffu);
    default: return any;
    }
}

/* --- Arrays ----------------------------------------------------------------------------- */

enum { Y, X, U, V, BITS, EXPECTED, AREAS };

static char *arena[AREAS];

static void make_arenas(void)
{
    for (int i = 0; i < AREAS; i++) {
        char *at = mmap(NULL, ARENA + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED || mprotect(at + PAGE, ARENA, PROT_READ | PROT_WRITE) != 0) abort();
        arena[i] = at + PAGE;
    }
}

typedef struct {
    char *start;     /* of the memory that it spans, its margin included */
    size_t bytes;
    char *at;        /* its first element in C order */
    ptrdiff_t stride[DIMS];
} array;

typedef struct {
    int ndim;
    ptrdiff_t shape[DIMS];
    uint64_t size;
} extent;

static extent pick_extent(input *in)
{
    static const short lengths[] = {1, 2, 3, 5, 7, 8, 16, 31, 33, 63, 64, 65, 127, 130, 255, 511,
                                    512, 513, 600, 1000, 4095, 4096, 4097, 8200, 0, 1};
    const uint8_t kind = u8(in);
    const uint64_t most = kind == 255 && u8(in) % 4 == 0 ? LARGE : kind >= 192 ? USUAL : SMALL;
    extent e = {.ndim = u8(in) % (DIMS + 1), .size = 1};
    for (int i = 0; i < e.ndim; i++) {
        ptrdiff_t n = u8(in) % 4 == 0 ? u8(in) % 40 : PICK(in, lengths);
        if (most == LARGE && i < 2) n = i ? (1 << 15) + u8(in) : 2; /* wide: bands in chunks */
        if (e.size * (uint64_t)n > most) n = (ptrdiff_t)(most / e.size);
        if (n == 0 && u8(in) % 8) n = 1;
        e.shape[i] = n;
        e.size *= (uint64_t)n;
        if (e.size == 0) {
            for (i++; i < e.ndim; i++) e.shape[i] = u8(in) % 9;
            break;
        }
    }
    return e;
}

/* Puts an array into an arena: axes in any order, steps between elements, either
 * direction, and axes without a step where `may_share`. */
static array place(input *in, int area, const extent *e, int size, int may_share)
{
    array a = {0};
    int order[DIMS];
    for (int i = 0; i < e->ndim; i++) {
        int j = u8(in) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    const uint8_t plain = u8(in);
    ptrdiff_t step = size, below = 0, above = 0;
    for (int k = 0; k < e->ndim; k++) {
        const int i = plain % 2 ? e->ndim - 1 - k : order[k];
        const uint8_t how = plain % 4 == 3 ? 0 : u8(in);
        if (may_share && how % 8 == 7) {
            a.stride[i] = 0;
            continue;
        }
        if (how % 8 == 6 && step * 2 * e->shape[i] < ARENA / 4) step *= 2;
        if (how % 8 == 5) step += u8(in) % 4; /* also by no multiple of the item size */
        a.stride[i] = how & 16 ? -step : step;
        const ptrdiff_t reach = (e->shape[i] > 0 ? e->shape[i] - 1 : 0) * step;
        *(how & 16 ? &below : &above) += reach;
        step += reach;
    }
    const size_t span = e->size ? (size_t)(below + above + size) : 0;
    const size_t slack = u8(in) % 4 ? 0 : u8(in) % (SLACK + 1); /* any alignment */
    const int at_end = u8(in) % 2;
    a.bytes = span + slack + MARGIN;
    if (a.bytes > ARENA) abort();
    a.start = at_end ? arena[area] + ARENA - a.bytes : arena[area];
    a.at = a.start + (at_end ? MARGIN : slack) + below;
    memset(a.start, POISON, a.bytes);
    ASAN_POISON_MEMORY_REGION(at_end ? a.start : a.start + slack + span, MARGIN);
    return a;
}

static drop_arrays arrays_of(const extent *e, drop_dtype dtype, const array *arrays, int count)
{
    drop_arrays a = {.ndim = e->ndim, .count = count, .dtype = dtype};
    for (int i = 0; i < e->ndim; i++) a.shape[i] = e->shape[i];
    for (int k = 0; k < count; k++) {
        a.at[k] = arrays[k].at;
        for (int i = 0; i < e->ndim; i++) a.stride[k][i] = arrays[k].stride[i];
    }
    return a;
}

static void release(const array *a) { ASAN_UNPOISON_MEMORY_REGION(a->start, a->bytes); }

/* The offset of element i in C order. */
static ptrdiff_t offset(const extent *e, const ptrdiff_t *stride, uint64_t i)
{
    ptrdiff_t at = 0;
    for (int k = e->ndim - 1; k >= 0; k--) {
        at += (ptrdiff_t)(i % (uint64_t)e->shape[k]) * stride[k];
        i /= (uint64_t)e->shape[k];
    }
    return at;
}

static void write_values(const array *a, const extent *e, int size, uint64_t seed, int tame)
{
    for (uint64_t i = 0; i < e->size; i++) {
        uint64_t v[2] = {mix(seed + 2 * i), mix(seed + 2 * i + 1)};
        /* Numbers that are no NaN: exponents that are not all ones. */
        if (tame) v[0] &= 0xbfffbfffbfffbfff, v[1] &= 0xbfffbfffbfffbfff;
        memcpy(a->at + offset(e, a->stride, i), v, (size_t)size);
    }
}

/* --- Threads ---------------------------------------------------------------------------- */

/* A team of one thread that is each of its members in turn, of which there may be fewer than asked for. */
static int current_member, members;

static int team_member(void) { return current_member; }
static int team_size(void) { return members; }

static void team_region(void (*run)(void *), void *context, unsigned threads, unsigned flags)
{
    (void)flags;
    members = threads > 2 ? (int)threads - 1 : (int)threads;
    for (current_member = 0; current_member < members; current_member++) run(context);
}

static drop_workers pick_workers(input *in)
{
    static const drop_team team = {team_region, team_member, team_size};
    const int threads = 1 + u8(in) % 4;
    return (drop_workers){threads, u8(in) % 2 ? &team : NULL};
}

/* --- Cases ------------------------------------------------------------------------------ */

static char running[512]; /* what a failure is a failure of */

static void fail(const char *what, uint64_t i)
{
    fprintf(stderr, "wrong: %s, number %llu, in %s\n", what, (unsigned long long)i, running);
    abort();
}

static void describe(const char *what, const drop_kernels *kernels, drop_dtype dtype, drop_form form,
                     const drop_numbers *numbers,
                     const extent *e, const array *arrays, int count)
{
    size_t n = 0;
#define ADD(...) (n += (size_t)snprintf(running + n, n < sizeof running ? sizeof running - n : 0, __VA_ARGS__))
    ADD("%s, %s, dtype %d, form %d, shape", what, kernels->name, (int)dtype, (int)form);
    if (numbers) ADD(" (numbers %a %a %a)", numbers->scale, numbers->shift, numbers->dropped);
    for (int i = 0; i < e->ndim; i++) ADD(" %td", e->shape[i]);
    for (int k = 0; k < count; k++) {
        ADD("; array %d at ...%02x, strides", k, (unsigned)((uintptr_t)arrays[k].at % 256));
        for (int i = 0; i < e->ndim; i++) ADD(" %td", arrays[k].stride[i]);
    }
#undef ADD
}

/* Keep bits of elements up to `end`, one after another, made a block at a time. */
typedef struct {
    const drop_mask *mask;
    uint64_t end, block;
    int status, any;
    uint8_t keep[DROP_BLOCK];
} keeper;

static int kept(keeper *k, uint64_t i)
{
    if (!k->any || i / DROP_BLOCK != k->block) {
        const uint64_t left = k->end - i / DROP_BLOCK * DROP_BLOCK;
        k->any = 1;
        k->block = i / DROP_BLOCK;
        k->status = oracle_block(k->mask, k->block, left < DROP_BLOCK ? (unsigned)left : DROP_BLOCK, k->keep);
    }
    return k->status ? 0 : k->keep[i % DROP_BLOCK];
}

/* Compares all memory that y spans with what it should hold. */
static void compare(const array *y, const char *expected, const extent *e, drop_dtype dtype, int any_nan)
{
    release(y);
    if (memcmp(y->start, expected, y->bytes) == 0) return;
    const int size = oracle_item_size(dtype);
    char *image = y->start;
    for (uint64_t i = 0; i < e->size; i++) {
        const ptrdiff_t at = y->at - image + offset(e, y->stride, i);
        if (!oracle_same(dtype, image + at, expected + at, any_nan)) {
            for (int b = size - 1; b >= 0; b--) fprintf(stderr, "%02x", (uint8_t)image[at + b]);
            fprintf(stderr, " should be ");
            for (int b = size - 1; b >= 0; b--) fprintf(stderr, "%02x", (uint8_t)expected[at + b]);
            fputc('\n', stderr);
            fail("result", i);
        }
        memcpy(image + at, expected + at, (size_t)size);
    }
    if (memcmp(image, expected, y->bytes) != 0) fail("a byte that is no element's", 0);
}

/* One that the oracle knows: relu is for real numbers, and gelu, silu and their slopes, whose bits
 * tests/kernels/test_activations.py compares with the reference's, are beyond it. */
static drop_form pick_form(input *in, drop_dtype dtype)
{
    const int is_real = dtype != DROP_C64 && dtype != DROP_C128;
    return (drop_form)(u8(in) % (is_real ? DROP_RELU_GRAD + 1 : DROP_RELU));
}

static void run_elements(input *in, const drop_kernels *kernels, const drop_mask *mask, uint64_t first)
{
    const extent e = pick_extent(in);
    const drop_dtype dtype = (drop_dtype)(u8(in) % DROP_DTYPES);
    const int size = oracle_item_size(dtype), general = u8(in) % 2;
    const drop_form form = general ? pick_form(in, dtype) : DROP_SCALE;
    const int inputs = oracle_inputs(form);
    const drop_workers by = pick_workers(in);
    const drop_numbers numbers = {number(in), number(in), number(in)};
    const uint64_t seed = u64(in);
    const int tame = u8(in) % 2;

    array a[AREAS] = {[Y] = place(in, Y, &e, size, 0)};
    for (int k = 0; k < inputs; k++) {
        const int is_y = u8(in) % 4 == 0; /* x or an operand may be the output */
        a[X + k] = is_y ? a[Y] : place(in, X + k, &e, size, 1);
        if (!is_y || k == 0) write_values(&a[X + k], &e, size, seed + k, tame);
    }

    /* Bits that are given: over a shape with shared axes, or walked anyhow. */
    const int given = general && u8(in) % 2;
    ptrdiff_t mask_stride[DIMS], span = 1, step = 1;
    for (int i = e.ndim - 1; i >= 0; i--) {
        const uint8_t how = u8(in);
        mask_stride[i] = how % 3 == 0 ? 0 : how % 16 == 1 ? how % 5 : step;
        if (mask_stride[i] == step) step *= e.shape[i] ? e.shape[i] : 1;
        span += (e.shape[i] ? e.shape[i] - 1 : 0) * mask_stride[i];
    }
    const size_t words = e.size ? (size_t)(span + 63) / 64 : 0;
    uint64_t *bits = (uint64_t *)(arena[BITS] + ARENA) - words;
    for (size_t w = 0; given && w < words; w++) bits[w] = mix(seed - 1 - w);

    /* What should come, beside a copy of what is there. */
    char *expected = arena[EXPECTED];
    keeper k = {.mask = mask, .end = first + e.size};
    release(&a[Y]);
    memcpy(expected, a[Y].start, a[Y].bytes);
    for (uint64_t i = 0; i < e.size; i++) {
        const char *at[DROP_INPUTS] = {0};
        for (int n = 0; n < inputs; n++) at[n] = a[X + n].at + offset(&e, a[X + n].stride, i);
        const uint64_t bit = given ? (uint64_t)offset(&e, mask_stride, i) : 0;
        const int keep = given ? (int)(bits[bit / 64] >> bit % 64 & 1) : kept(&k, first + i);
        oracle_element(form, dtype, at, keep, &numbers, expected + (a[Y].at - a[Y].start) + offset(&e, a[Y].stride, i));
    }

    describe(given ? "evaluate bits" : general ? "evaluate" : "apply", kernels, dtype, form, &numbers, &e, a, 1 + inputs);
    drop_operation op = {.bits = given ? bits : NULL, .mask = given ? NULL : mask, .first = first, .form = form,
                         .numbers = numbers, .arrays = arrays_of(&e, dtype, a, 1 + inputs)};
    memcpy(op.bit_stride, mask_stride, (size_t)e.ndim * sizeof *mask_stride);
    const int status = drop_evaluate(kernels, &op, by);
    if (status != k.status) fail("status", (uint64_t)status);
    /* Which of two NaNs a sum keeps is the compiler's choice. */
    if (!status) compare(&a[Y], expected, &e, dtype, form != DROP_SCALE);
    for (int n = 0; n <= inputs; n++) release(&a[Y + n]);
}

/* x with noise, of words from `draw` on. */
static void run_noise(input *in, const drop_kernels *kernels, const drop_mask *mask)
{
    static const drop_dtype real[] = {DROP_F16, DROP_BF16, DROP_F32, DROP_F64};
    const extent e = pick_extent(in);
    const drop_dtype dtype = PICK(in, real);
    const int size = oracle_item_size(dtype), is_y = u8(in) % 4 == 0;
    const drop_noise noise = {.fill = mask->fill, .key = mask->key, .draw = mask->draw,
                              .factor = u8(in) % 2, .spread = number(in)};
    const drop_workers by = pick_workers(in);
    array a[AREAS] = {[Y] = place(in, Y, &e, size, 0)};
    a[X] = is_y ? a[Y] : place(in, X, &e, size, 1);
    write_values(&a[X], &e, size, u64(in), u8(in) % 2);

    char *expected = arena[EXPECTED];
    release(&a[Y]);
    memcpy(expected, a[Y].start, a[Y].bytes);
    int failed = 0;
    for (uint64_t i = 0; i < e.size && !failed; i++) {
        uint64_t word;
        failed = noise.fill(noise.key, noise.draw + i, 1, &word);
        oracle_noise(dtype, word, noise.factor, noise.spread, a[X].at + offset(&e, a[X].stride, i),
                     expected + (a[Y].at - a[Y].start) + offset(&e, a[Y].stride, i));
    }
    describe("noise", kernels, dtype, noise.factor, &(drop_numbers){.scale = noise.spread}, &e, a, 2);
    drop_arrays arrays = arrays_of(&e, dtype, a, 2);
    const int status = drop_add_noise(kernels, &noise, &arrays, by);
    if (status != failed) fail("status", (uint64_t)status);
    if (!status) compare(&a[Y], expected, &e, dtype, 1);
    release(&a[Y]);
    release(&a[X]);
}

/* Keep bits by themselves: packed, or as numbers of so many bytes each. */
static void run_bits(input *in, const drop_kernels *kernels, const drop_mask *mask, uint64_t first)
{
    const uint64_t n = position(in) % (u8(in) == 0 ? LARGE : USUAL), item = u8(in) % 3;
    const uint64_t bytes = item ? n * item : (n + 7) / 8;
    const drop_workers by = pick_workers(in);
    uint8_t *out = (uint8_t *)(arena[Y] + ARENA - bytes);
    memset(out - MARGIN, POISON, bytes + MARGIN);
    keeper k = {.mask = mask, .end = first + n};
    const extent e = {.ndim = 1, .shape = {(ptrdiff_t)n}, .size = n};
    describe(item ? "ones" : "bits", kernels, 0, 0, NULL, &e, NULL, 0);
    const int status = drop_bits(kernels, mask, first, n, out, (int)item, by);
    for (uint64_t i = 0; i < n; i++) {
        const unsigned one = item == 2 ? 0x3f80 : 1;
        unsigned found = 0;
        if (item) memcpy(&found, out + i * item, item); /* a 1, or bfloat16's */
        else found = out[i / 8] >> i % 8 & 1;
        if (found != one * (unsigned)kept(&k, first + i) && !k.status) fail("bit", i);
    }
    if (status != k.status) fail("status", (uint64_t)status);
    if (!status && !item && n % 8 && out[bytes - 1] >> n % 8) fail("bits past the last", n);
    for (int i = 1; i <= MARGIN; i++)
        if (out[-i] != POISON) fail("a byte before the bits", (uint64_t)i);
}

/* A kernel alone, with what only large arrays make the walkers ask for: streaming. */
static void run_kernel(input *in, const drop_kernels *kernels)
{
    const drop_dtype dtype = (drop_dtype)(u8(in) % DROP_DTYPES);
    const drop_form form = pick_form(in, dtype);
    const int inputs = oracle_inputs(form), size = oracle_item_size(dtype), streaming = u8(in) % 4 != 0;
    const uint64_t n = u64(in) % (DROP_BLOCK + 1);
    const extent e = {.ndim = 1, .shape = {(ptrdiff_t)n}, .size = n};
    const drop_numbers numbers = {number(in), number(in), number(in)};
    const uint64_t seed = u64(in), words = (n + 63) / 64;
    uint64_t *keep = (uint64_t *)(arena[BITS] + ARENA) - words;
    for (uint64_t w = 0; w < words; w++) keep[w] = mix(seed - 1 - w);
    array a[AREAS] = {[Y] = place(in, Y, &e, size, 0)};
    drop_input from[DROP_INPUTS] = {{0}};
    for (int k = 0; k < inputs; k++) {
        a[X + k] = place(in, X + k, &e, size, 1);
        write_values(&a[X + k], &e, size, seed + k, u8(in) % 2);
        from[k] = (drop_input){a[X + k].at, a[X + k].stride[0]};
    }
    char *expected = arena[EXPECTED];
    release(&a[Y]);
    memcpy(expected, a[Y].start, a[Y].bytes);
    for (uint64_t i = 0; i < n; i++) {
        const char *at[DROP_INPUTS] = {0};
        for (int k = 0; k < inputs; k++) at[k] = from[k].at + (ptrdiff_t)i * from[k].stride;
        oracle_element(form, dtype, at, keep[i / 64] >> i % 64 & 1, &numbers,
                       expected + (a[Y].at - a[Y].start) + (ptrdiff_t)i * a[Y].stride[0]);
    }
    describe(streaming ? "kernel, streaming" : "kernel", kernels, dtype, form, &numbers, &e, a, 1 + inputs);
    if (form == DROP_SCALE)
        kernels->elements->apply[dtype](from->at, from->stride, a[Y].at, a[Y].stride[0], (size_t)n, keep,
                              numbers.scale, streaming);
    else
        kernels->elements->form[form][dtype](from, a[Y].at, a[Y].stride[0], (size_t)n, keep, &numbers,
                                   streaming);
    compare(&a[Y], expected, &e, dtype, form != DROP_SCALE);
    for (int k = 0; k <= inputs; k++) release(&a[Y + k]);
}

/* A generator's words in one call, and one by one from the plainest kernels. */
static void run_fill(input *in, const drop_kernels *kernels, const uint64_t *key)
{
    const drop_kernels *plain = drop_isa_kernels("baseline");
    const int which = u8(in) % DROP_GENERATORS;
    const uint64_t n = u64(in) % 700, at = u8(in) % 4 ? position(in) : UINT64_MAX - n - u8(in);
    uint64_t *out = (uint64_t *)(arena[Y] + ARENA) - n;
    snprintf(running, sizeof running, "fill %d, %s, %llu words from %llu", which, kernels->name,
             (unsigned long long)n, (unsigned long long)at);
    memset(out - 32, POISON, (n + 32) * sizeof *out);
    if (kernels->fill[which](key, at, n, out) != 0) fail("status of fill", n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t word;
        if (plain->fill[which](key, at + i, 1, &word) != 0 || word != out[i]) fail("word", i);
    }
    for (int i = 1; i <= 32; i++)
        if (out[-i] != 0xa5a5a5a5a5a5a5a5u) fail("a word before the stream's", (uint64_t)i);
}

static void run_attention(input *in, const drop_kernels *kernels, const drop_mask *mask)
{
    const uint64_t seed = u64(in);
    snprintf(running, sizeof running, "attention %llu, %s", (unsigned long long)seed, kernels->name);
    const char *wrong = fuzz_attention(kernels, mask, seed);
    if (wrong) fail(wrong, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const drop_kernels *isa[8];
    static int isas;
    if (!isas) {
        make_arenas();
        for (const char *const *name = drop_isa_names(); *name; name++) isa[isas++] = drop_isa_kernels(*name);
    }
    input in = {data, data + size};
    const drop_kernels *kernels = isa[u8(&in) % isas];
    const uint8_t what = u8(&in) % 16;
    uint64_t key[6];
    for (int i = 0; i < 6; i++) key[i] = mix(i + (uint64_t)u8(&in));
    if (what == 0) {
        run_fill(&in, kernels, key);
        return 0;
    }
    if (what < 5) {
        run_kernel(&in, kernels);
        return 0;
    }
    const drop_mask mask = {.fill = pick_fill(&in, kernels), .key = key,
                            .draw = position(&in), .threshold = pick_threshold(&in)};
    const uint64_t first = position(&in) >> 2;
    if (what < 7) run_bits(&in, kernels, &mask, first);
    else if (what < 9) run_noise(&in, kernels, &mask);
    else if (what == 9) run_attention(&in, kernels, &mask);
    else run_elements(&in, kernels, &mask, first);
    return 0;
}
