/* What one instruction set's build of masks.c, kernels.c and apply.c offers to the rest. */
#ifndef DROP_KERNELS_H
#define DROP_KERNELS_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "include/fastdrop_rng.h"
#include "kernels/rows.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed masks are written as little-endian words"
#endif

enum {
    DROP_BLOCK = 4096, /* elements whose mask is made at once */
    DROP_BLOCK_WORDS = DROP_BLOCK / 64,
    DROP_STRIP = 512, /* elements whose planes lie side by side */
    DROP_STRIP_WORDS = DROP_STRIP / 64,
};

typedef enum {
#define DTYPE_EACH(name, CODE, ...) DROP_##CODE,
#include "kernels/dtypes.def"
    DROP_DTYPES
} drop_dtype;

/* NumPy's name of a dtype, and the bytes of an element. */
static inline const char *drop_dtype_name(drop_dtype dtype)
{
    static const char *const names[] = {
#define DTYPE_EACH(name, CODE, numpy, ...) #numpy,
#include "kernels/dtypes.def"
    };
    return names[dtype];
}

static inline int drop_item_size(drop_dtype dtype)
{
    static const int sizes[] = {
#define DTYPE_EACH(name, CODE, numpy, NUM, bytes, ...) bytes,
#include "kernels/dtypes.def"
    };
    return sizes[dtype];
}

typedef enum {
#define GENERATOR_EACH(name, CODE, ...) DROP_##CODE,
#include "rng/generators.def"
    DROP_GENERATORS
} drop_generator;

/* What an operation returns if `fill` returned 0 and had not written its last word. */
enum { DROP_UNWRITTEN = INT_MIN + 1 };

/* A `fill` that Numba or ctypes made of Python code returns 0 after an exception. It is
 * found out by its last word, still what it was; by chance that is a right word too, and then a
 * second call writes it over another one. */
static inline int fill_checked(fastdrop_fill fill, const void *key, uint64_t position, uint64_t n,
                               uint64_t *out)
{
    uint64_t unwritten = 0x9d5c1a7be3f04286u;
    for (int call = 0; call < 2; call++, unwritten = ~unwritten) {
        out[n - 1] = unwritten;
        const int failed = fill(key, position, n, out);
        if (failed || out[n - 1] != unwritten) return failed;
    }
    return DROP_UNWRITTEN;
}

/* The mask function: keep(i) for any element i. */
typedef struct {
    fastdrop_fill fill;
    const void *key;
    uint64_t draw;      /* position of the first word of this draw */
    uint64_t threshold; /* keep probability, in units of 2^-40 */
} drop_mask;

/* y[i] = keep[i] ? x[i] * scale : +0 for n elements; strides in bytes. */
typedef void (*drop_apply_run)(const char *x, ptrdiff_t x_stride, char *y, ptrdiff_t y_stride,
                             size_t n, const uint64_t *keep, double scale, int streaming);

/* The same for whole blocks of the mask and contiguous arrays, its bits included, where
 * `fill` is a certain generator's; u, if it is not NULL, is added. Inputs are asked for `prefetch` bytes
 * ahead, if it is not 0. Returns 0 if it did nothing, for it does not know every threshold. */
typedef int (*drop_pipe_run)(const drop_mask *mask, uint64_t block, uint64_t blocks, const char *x,
                             const char *u, char *y, double scale, int streaming, ptrdiff_t prefetch);

/* What is written. */
typedef enum {
#define FORM_EACH(name, CODE, ...) DROP_##CODE,
#include "kernels/forms.def"
    DROP_FORMS
} drop_form;

/* backends/form.py's name of a form, and how many arrays it takes beside x. */
static inline const char *drop_form_name(drop_form form)
{
    static const char *const names[] = {
#define FORM_EACH(name, ...) #name,
#include "kernels/forms.def"
    };
    return names[form];
}

static inline int drop_form_operands(drop_form form)
{
    static const int counts[] = {
#define FORM_EACH(name, CODE, operands, ...) operands,
#include "kernels/forms.def"
    };
    return counts[form];
}

enum { DROP_INPUTS = 3 }; /* x and two operands at most */

typedef struct {
    const char *at;
    ptrdiff_t stride;
} drop_input;

typedef struct {
    double scale, shift, dropped;
} drop_numbers;

/* y[i] = form of in[0][i], in[1][i], ... for n elements. */
typedef void (*drop_form_run)(const drop_input *in, char *y, ptrdiff_t y_stride, size_t n,
                              const uint64_t *keep, const drop_numbers *numbers, int streaming);

/* Noise on n contiguous elements of x, of which each takes a word. */
typedef void (*drop_noise_run)(const uint64_t *words, const char *x, char *y, size_t n, int factor,
                               double spread, int streaming);

/* n keep bits as numbers, 1 or 0: bytes, or bfloat16. */
typedef void (*drop_ones_run)(const uint64_t *keep, size_t n, void *out);

enum { DROP_ONES_U8, DROP_ONES_BF16, DROP_ONES }; /* the number is one less than an item's bytes */

/* The numbers that kernels compute with (math/precisions.def). */
typedef enum { DROP_SINGLE, DROP_DOUBLE, DROP_PRECISIONS } drop_precision;

static inline drop_precision drop_precision_of(drop_dtype dtype)
{
    static const drop_precision precisions[] = {
#define DROP_f32_ DROP_SINGLE
#define DROP_f64_ DROP_DOUBLE
#define DTYPE_EACH(name, CODE, numpy, NUM, bytes, number, ...) DROP_##number##_,
#include "kernels/dtypes.def"
    };
    return precisions[dtype];
}

/* Some rows and columns of scores, which are multiplied by `scale` before the softmax. */
typedef struct {
    size_t rows, columns, pitch; /* pitch: numbers from one row to the next */
    double scale;
    const void *bias; /* numbers that are added then, or NULL */
    size_t bias_pitch;
    ptrdiff_t limit; /* row r ends after limit + r columns: the others are masked */
    const uint64_t *keep; /* or NULL: all are kept. Row r, column c has bit `bit + r * bit_pitch + c` */
    uint64_t bit, bit_pitch;
    double keep_scale;
    const void *inverse; /* for the backward pass, or NULL: what each row's exponentials are multiplied by */
} drop_tile;

/* Softmax with dropout in one precision: see softmax_body.h. */
typedef struct {
    void (*start)(size_t rows, void *highest, void *total);
    void (*forward)(const drop_tile *tile, const void *x, void *y, void *highest, void *total, void *change);
    void (*end)(const void *highest, const void *total, size_t rows, double keep_scale, void *factors, void *lse);
    void (*backward)(const drop_tile *tile, void *x, void *grad, const void *highest, const void *delta);
    void (*multiply)(void *x, size_t pitch, size_t rows, size_t columns, const void *factors);
    void (*normalize)(const drop_tile *tile, void *y, const void *factors);
    void (*products)(const drop_tile *tile, const void *y, const void *grad, const void *factors, void *sums);
} drop_softmax_runs;

/* n contiguous elements as numbers of their precision, or numbers as elements. */
typedef void (*drop_convert_run)(const void *from, void *to, size_t n);

/* What is done to elements. */
typedef struct {
    drop_ones_run ones[DROP_ONES];
    const drop_apply_run *apply;                 /* by dtype */
    drop_form_run form[DROP_FORMS][DROP_DTYPES]; /* none for DROP_SCALE, which is `apply` */
    drop_noise_run noise[DROP_DTYPES];           /* none for complex numbers */
    drop_convert_run widen[DROP_DTYPES], narrow[DROP_DTYPES]; /* nor here */
    const drop_softmax_runs *softmax[DROP_PRECISIONS];
} drop_element_runs;

typedef struct {
    const char *name;  /* of the instruction set */
    const char *words; /* what makes the default generator's words */
    fastdrop_fill fill[DROP_GENERATORS];
    void (*prepare[DROP_GENERATORS])(void); /* call once what is there, before anything else */
    int (*block_bits)(const drop_mask *mask, uint64_t block, uint64_t n, uint64_t *keep);
    const drop_pipe_run *pipe[DROP_GENERATORS]; /* by dtype, for generators that have one */
    const drop_element_runs *elements;
} drop_kernels;

#endif
