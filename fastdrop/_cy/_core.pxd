# What _core.pyx uses of the C files, one block for each header.

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef extern from "include/fastdrop_rng.h":
    ctypedef int (*fastdrop_fill)(const void *, uint64_t, uint64_t, uint64_t *) noexcept nogil


cdef extern from "kernels/kernels.h":
    ctypedef enum drop_dtype:
        DROP_DTYPES

    const char *drop_dtype_name(drop_dtype) nogil
    int drop_item_size(drop_dtype) nogil

    ctypedef struct drop_mask:
        fastdrop_fill fill
        const void *key
        uint64_t draw
        uint64_t threshold

    enum:
        DROP_BLOCK

    ctypedef enum drop_form:
        DROP_SCALE
        DROP_AFFINE
        DROP_FORMS

    const char *drop_form_name(drop_form) nogil
    int drop_form_operands(drop_form) nogil

    enum:
        DROP_INPUTS

    ctypedef struct drop_numbers:
        double scale
        double shift
        double dropped

    ctypedef enum drop_precision:
        DROP_SINGLE
        DROP_DOUBLE

    drop_precision drop_precision_of(drop_dtype) nogil

    ctypedef struct drop_kernels:
        const char *name
        const char *words

    ctypedef enum drop_generator:
        DROP_GENERATORS


cdef extern from "kernels/numpy_dtypes.h":
    enum:
        NPY_USERDEF

    drop_dtype drop_dtype_of(int) nogil


cdef extern from "runtime/isa.h":
    const char *const *drop_isa_names()
    bint drop_choose_isa(const char *)
    const drop_kernels *drop_chosen_kernels() nogil
    const char *drop_generator_name(drop_generator)
    fastdrop_fill drop_generator_fill(drop_generator)
    fastdrop_fill drop_chosen_fill(fastdrop_fill) nogil
    const char *drop_take_pipeline()


cdef extern from "<stdatomic.h>" nogil:
    ctypedef unsigned long long atomic_ullong
    void atomic_store(atomic_ullong *, unsigned long long)
    unsigned long long atomic_load(atomic_ullong *)
    bint atomic_compare_exchange_weak(atomic_ullong *, unsigned long long *, unsigned long long)


cdef extern from "runtime/tasks.h":
    ctypedef void *drop_team_region
    ctypedef void *drop_team_number

    ctypedef struct drop_team:
        drop_team_region parallel
        drop_team_number member
        drop_team_number size

    ctypedef struct drop_workers:
        int threads
        const drop_team *team


cdef extern from "drivers/arrays.h":
    enum:
        DROP_MAX_DIMS

    ctypedef struct drop_arrays:
        int ndim
        int count
        drop_dtype dtype
        char **at
        Py_ssize_t *shape
        Py_ssize_t (*stride)[64]

    uint64_t count_elements(const drop_arrays *)


cdef extern from "drivers/operation.h":
    enum:
        DROP_SERIAL_BELOW


cdef extern from "drivers/mask.h":
    int drop_bits(const drop_kernels *, const drop_mask *, uint64_t, uint64_t, uint8_t *, int,
                  drop_workers) nogil

    ctypedef struct drop_samples:
        drop_mask mask
        const uint64_t *draws
        uint64_t count

    int drop_window_bits(const drop_kernels *, const drop_samples *, uint64_t, drop_arrays *, uint64_t *,
                         drop_workers) nogil


cdef extern from "drivers/evaluate.h":
    enum:
        DROP_NO_MEMORY

    ctypedef struct drop_operation:
        const drop_mask *mask
        uint64_t first
        const uint64_t *bits
        Py_ssize_t *bit_stride
        drop_form form
        drop_numbers numbers
        drop_arrays arrays

    int drop_evaluate(const drop_kernels *, drop_operation *, drop_workers) nogil
    int drop_evaluate_samples(const drop_kernels *, drop_operation *, const drop_samples *,
                              drop_workers) nogil


cdef extern from "drivers/noise.h":
    ctypedef struct drop_noise:
        fastdrop_fill fill
        const void *key
        uint64_t draw
        int factor
        double spread

    int drop_add_noise(const drop_kernels *, const drop_noise *, drop_arrays *, drop_workers) nogil


cdef extern from "drivers/attention.h":
    ctypedef void (*drop_gemm)(const char *, const char *, const int *, const int *, const int *,
                               const void *, const void *, const int *, const void *, const int *,
                               const void *, void *, const int *) noexcept nogil

    ctypedef struct drop_matrices:
        char *at
        Py_ssize_t stride[3]

    ctypedef struct drop_bias:
        const char *at
        int dtype
        Py_ssize_t stride[4]

    ctypedef struct drop_attention:
        drop_gemm gemm[2]
        drop_dtype dtype
        int64_t batches, heads, groups, rows, columns, width, value_width
        drop_matrices q, k, v, out
        void *row_stats
        drop_bias bias
        int causal
        double scale
        double keep_scale
        const drop_mask *mask
        drop_matrices grad, dq, dk, dv

    int drop_attend(const drop_kernels *, const drop_attention *, drop_workers) nogil
    int drop_attend_backward(const drop_kernels *, const drop_attention *, drop_workers) nogil


cdef extern from "drivers/softmax.h":
    ctypedef struct drop_softmax:
        drop_precision precision
        uint64_t rows, columns
        double scale, keep_scale
        const drop_mask *mask
        uint64_t first, width
        const uint64_t *bits
        const void *bias
        uint64_t bias_rows
        uint64_t causal
        uint64_t row

    int drop_softmax_rows(const drop_kernels *, const drop_softmax *, const void *, void *, void *,
                          drop_workers) nogil
    int drop_softmax_rows_backward(const drop_kernels *, const drop_softmax *, void *, void *,
                                   const void *, const void *, drop_workers) nogil


cdef extern from "drivers/words.h":
    int drop_words(fastdrop_fill, const void *, uint64_t, uint64_t, uint64_t *,
                   drop_workers) nogil


cdef extern from "drivers/api.h":
    ctypedef struct fastdrop_mask:
        fastdrop_fill fill
        const void *key
        uint64_t draw
        uint64_t threshold
        uint64_t first
        double scale

    ctypedef struct fastdrop_api:
        int (*open_mask)(object, fastdrop_mask *) except -1

    const char *FASTDROP_CAPSULE
    fastdrop_api drop_api


cdef extern from "rng/sequential.h":
    int drop_sequential_fill(const void *, uint64_t, uint64_t, uint64_t *) noexcept nogil


cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray, cnp.NPY_ORDER, cnp.PyArray_Descr *, int)
    int PyArray_ISNOTSWAPPED(cnp.ndarray)
    object PyArray_IntTupleFromIntp(int, cnp.npy_intp *)
