# What _core.pyx uses of the C files, one block for each header.

cimport numpy as cnp
from libc.stdint cimport uint8_t, uint64_t


cdef extern from "include/fastdrop_rng.h":
    ctypedef int (*fastdrop_fill)(const void *, uint64_t, uint64_t, uint64_t *) noexcept nogil


cdef extern from "kernels/kernels.h":
    ctypedef enum drop_dtype:
        DROP_F16
        DROP_BF16
        DROP_F32
        DROP_F64
        DROP_C64
        DROP_C128

    ctypedef struct drop_mask:
        fastdrop_fill fill
        const void *key
        uint64_t draw
        uint64_t threshold

    enum:
        DROP_BLOCK

    ctypedef enum drop_form:
        DROP_SCALE

    enum:
        DROP_INPUTS

    ctypedef struct drop_numbers:
        double scale
        double shift
        double dropped

    ctypedef struct drop_kernels:
        const char *name
        fastdrop_fill philox4x32
        fastdrop_fill philox4x64
        fastdrop_fill pcg64


cdef extern from "runtime/isa.h":
    const char *const *drop_isa_names()
    const drop_kernels *drop_isa_kernels(const char *)


cdef extern from "drivers/walk.h":
    enum:
        DROP_MAX_DIMS
        DROP_NO_MEMORY

    ctypedef struct drop_arrays:
        int ndim
        const char *x
        char *y
        Py_ssize_t *shape
        Py_ssize_t *x_stride
        Py_ssize_t *y_stride

    int drop_apply(const drop_kernels *, const drop_mask *, uint64_t, drop_arrays *,
                   drop_dtype, double, int) nogil
    int drop_bits(const drop_kernels *, const drop_mask *, uint64_t, uint64_t, uint8_t *,
                  int) nogil


cdef extern from "<stdatomic.h>" nogil:
    ctypedef unsigned long long atomic_ullong
    void atomic_store(atomic_ullong *, unsigned long long)
    unsigned long long atomic_load(atomic_ullong *)
    bint atomic_compare_exchange_weak(atomic_ullong *, unsigned long long *, unsigned long long)


cdef extern from "drivers/evaluate.h":
    ctypedef struct drop_grid:
        int ndim
        int arrays
        Py_ssize_t *shape
        Py_ssize_t (*stride)[64]

    ctypedef struct drop_operation:
        const uint64_t *bits
        const drop_mask *mask
        uint64_t first
        drop_grid mask_grid
        drop_grid grid
        const char **at
        char *y
        drop_form form
        drop_dtype dtype
        drop_numbers numbers

    int drop_evaluate(const drop_kernels *, drop_operation *, int) nogil


cdef extern from "drivers/operation.h":
    enum:
        DROP_SERIAL_BELOW

    int drop_item_size(drop_dtype) nogil


cdef extern from "runtime/team.h":
    ctypedef void *drop_team_region
    ctypedef void *drop_team_number

    ctypedef struct drop_team:
        drop_team_region parallel
        drop_team_number member
        drop_team_number size

    int drop_affine_by(const drop_team *, const drop_kernels *, const drop_mask *, drop_arrays *,
                       drop_dtype, const drop_numbers *, int) nogil
    int drop_ones_by(const drop_team *, const drop_kernels *, const drop_mask *, uint64_t,
                     uint8_t *, int, int) nogil


cdef extern from "drivers/noise.h":
    ctypedef struct drop_noise:
        fastdrop_fill fill
        const void *key
        uint64_t draw
        int factor
        double spread

    int drop_add_noise(const drop_kernels *, const drop_noise *, drop_arrays *, drop_dtype,
                       int) nogil


cdef extern from "rng/sequential.h":
    int drop_sequential_fill(const void *, uint64_t, uint64_t, uint64_t *) noexcept nogil


cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray, cnp.NPY_ORDER, cnp.PyArray_Descr *, int)
    int PyArray_ISNOTSWAPPED(cnp.ndarray)
    object PyArray_IntTupleFromIntp(int, cnp.npy_intp *)
