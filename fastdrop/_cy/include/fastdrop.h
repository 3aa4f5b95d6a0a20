/* fastdrop's masks in C: a table of functions that an extension gets from the Python package.
 *
 *     #include <Python.h>
 *     #include <fastdrop.h>                 // folder: fastdrop.get_include()
 *
 *     static const fastdrop_api *fd;
 *     ...                                   // in the module's init function:
 *     fd = fastdrop_import();
 *     if (!fd) return NULL;                 // a Python error is set
 *
 * No function but `open_mask` needs the GIL, and any thread may call any of them at any time. They use no
 * threads of their own. docs/c-api.md is the guide.
 */
#ifndef FASTDROP_H
#define FASTDROP_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "fastdrop_rng.h"

#define FASTDROP_ABI_VERSION 1
#define FASTDROP_CAPSULE "fastdrop._C_API"

enum { FASTDROP_BLOCK = 4096 };         /* elements whose bits are made at once */
enum { FASTDROP_MAX_DIMS = 64 };        /* of an array */

/* Why a function failed, if not because of `fill`: then it returns what that returned. (A `fill` of your own had
 * better return positive numbers.) */
enum {
    FASTDROP_NO_MEMORY = INT_MIN,       /* nothing has been written */
    FASTDROP_UNWRITTEN = INT_MIN + 1,   /* `fill` returned 0 and did not write its words */
    FASTDROP_BAD_ARGUMENT = INT_MIN + 2 /* nothing has been written; also where a number of an element has 65 bits */
};

typedef enum {
    FASTDROP_FLOAT16,
    FASTDROP_BFLOAT16,
    FASTDROP_FLOAT32,
    FASTDROP_FLOAT64,
    FASTDROP_COMPLEX64,
    FASTDROP_COMPLEX128
} fastdrop_dtype;

/* A mask: whether element i is kept, for any i. Two masks whose words overlap in one stream are not independent. */
typedef struct {
    fastdrop_fill fill;  /* the generator */
    const void *key;     /* and its key, which must live as long as the mask is used */
    uint64_t draw;       /* position of the mask's first word in the generator's stream */
    uint64_t threshold;  /* keep probability in units of 2^-40, see `threshold` */
    uint64_t first;      /* 0, or a number that is added to each element's: for a part of a larger mask */
    double scale;        /* what kept elements are multiplied by, usually 1 / (1 - p) */
} fastdrop_mask;

struct _object; /* Python's PyObject */

typedef struct {
    uint32_t abi_version; /* FASTDROP_ABI_VERSION: another one is another table */
    uint32_t struct_size; /* of the table here: later versions may only append */

    /* A built-in generator, "ars4x32", "philox4x32", "philox" or "pcg64"; NULL for other names. A key has
     * 2, 2, 6 or 4 words: 2 of ars4x32 and philox4x32 are any 128 bits. */
    fastdrop_fill (*fill)(const char *name);

    /* The threshold of a drop probability; UINT64_MAX if p is NaN or outside [0, 1]. */
    uint64_t (*threshold)(double p);

    /* How many words of its stream a mask of n elements takes: the next one's draw may begin behind them. */
    uint64_t (*words)(uint64_t threshold, uint64_t n);

    /* Keep bits of elements 4096 * block to 4096 * block + 4095: bit i % 64 of bits[i / 64], 64 words. */
    int (*block_bits)(const fastdrop_mask *mask, uint64_t block, uint64_t *bits);

    /* Keep bits of elements first to first + n - 1, in (n + 63) / 64 words; the last one's other bits are 0. */
    int (*bits)(const fastdrop_mask *mask, uint64_t first, uint64_t n, uint64_t *bits);

    /* Dropout: y = x * scale where the mask keeps, +0 elsewhere. Elements count in C order from `first`. Strides
     * are in bytes and may be negative, x's also 0. y is x, with the same strides, or does not overlap it.
     * Neither has to be aligned. */
    int (*apply)(const fastdrop_mask *mask, uint64_t first, fastdrop_dtype dtype, int ndim,
                 const ptrdiff_t *shape, const void *x, const ptrdiff_t *x_strides, void *y,
                 const ptrdiff_t *y_strides);

    /* Makes a mask of a Python `fastdrop.Mask` without shared axes, as `fastdrop.mask(shape, p)` is one; it is
     * usable while that object lives. Needs the GIL. Returns 0, or -1 with a Python error, and `out` as it was. */
    int (*open_mask)(struct _object *mask, fastdrop_mask *out);
} fastdrop_api;

#endif

/* Behind a guard of its own: the header may have come before Python.h. */
#if defined(Py_PYTHON_H) && !defined(FASTDROP_IMPORT)
#define FASTDROP_IMPORT

/* Imports fastdrop and returns its table; NULL with a Python error if it has none for this header. */
static inline const fastdrop_api *fastdrop_import(void)
{
    const fastdrop_api *api;
    PyObject *capsule, *module = PyImport_ImportModule("fastdrop");
    if (!module) return NULL;
    capsule = PyObject_GetAttrString(module, "_C_API");
    Py_DECREF(module);
    if (!capsule && !PyErr_ExceptionMatches(PyExc_AttributeError)) return NULL;
    if (!capsule || !PyCapsule_IsValid(capsule, FASTDROP_CAPSULE)) { /* or a fastdrop older than the table */
        PyErr_Clear();
        Py_XDECREF(capsule);
        PyErr_SetString(PyExc_ImportError, "fastdrop has no compiled kernels here, or is too old, and so has no table for C");
        return NULL;
    }
    api = (const fastdrop_api *)PyCapsule_GetPointer(capsule, FASTDROP_CAPSULE);
    Py_DECREF(capsule); /* the table is static */
    if (!api) return NULL;
    if (api->abi_version != FASTDROP_ABI_VERSION || api->struct_size < sizeof(fastdrop_api)) {
        PyErr_Format(PyExc_ImportError,
                     "fastdrop's table for C must have version %u and %u bytes or more, but has version %u and %u: "
                     "build this extension again with the fastdrop that is installed",
                     (unsigned)FASTDROP_ABI_VERSION, (unsigned)sizeof(fastdrop_api), (unsigned)api->abi_version,
                     (unsigned)api->struct_size);
        return NULL;
    }
    return api;
}

#endif
