# `cimport fastdrop`: the table of fastdrop.h, which says what its functions do. C's declarations only, for
# names that Cython itself exported would tie extensions to one version.

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "fastdrop_rng.h":
    ctypedef int (*fastdrop_fill)(const void *key, uint64_t position, uint64_t n, uint64_t *out) noexcept nogil


cdef extern from "fastdrop.h":
    enum:
        FASTDROP_ABI_VERSION
        FASTDROP_BLOCK
        FASTDROP_MAX_DIMS
        FASTDROP_NO_MEMORY
        FASTDROP_UNWRITTEN
        FASTDROP_BAD_ARGUMENT

    ctypedef enum fastdrop_dtype:
        FASTDROP_FLOAT16
        FASTDROP_BFLOAT16
        FASTDROP_FLOAT32
        FASTDROP_FLOAT64
        FASTDROP_COMPLEX64
        FASTDROP_COMPLEX128

    ctypedef struct fastdrop_mask:
        fastdrop_fill fill
        const void *key
        uint64_t draw
        uint64_t threshold
        uint64_t first
        double scale

    ctypedef struct fastdrop_api:
        uint32_t abi_version
        uint32_t struct_size
        fastdrop_fill (*fill)(const char *name) noexcept nogil
        uint64_t (*threshold)(double p) noexcept nogil
        uint64_t (*words)(uint64_t threshold, uint64_t n) noexcept nogil
        int (*block_bits)(const fastdrop_mask *mask, uint64_t block, uint64_t *bits) noexcept nogil
        int (*bits)(const fastdrop_mask *mask, uint64_t first, uint64_t n, uint64_t *bits) noexcept nogil
        int (*apply)(const fastdrop_mask *mask, uint64_t first, fastdrop_dtype dtype, int ndim,
                     const Py_ssize_t *shape, const void *x, const Py_ssize_t *x_strides, void *y,
                     const Py_ssize_t *y_strides) noexcept nogil
        int (*open_mask)(object mask, fastdrop_mask *out) except -1


cdef extern from "fastdrop.h":
    const fastdrop_api *fastdrop_import() except NULL
