# cython: language_level=3, boundscheck=False, wraparound=False
"""Dropout of a matrix's rows in an OpenMP loop: in any order, and the same as `fastdrop.dropout`."""

cimport fastdrop
from cython.parallel cimport prange
from libc.stdint cimport uint64_t

cdef const fastdrop.fastdrop_api *fd = fastdrop.fastdrop_import()


def drop_rows(float[:, ::1] x, mask, int threads):
    """Write dropout of x to x itself, under a `fastdrop.Mask` of its shape."""
    cdef fastdrop.fastdrop_mask opened
    cdef Py_ssize_t row, columns = x.shape[1], item = sizeof(float)
    cdef int status = 0
    if mask.shape != (x.shape[0], x.shape[1]):
        raise ValueError(f"mask must have the shape of x, but got {mask.shape}")
    fd.open_mask(mask, &opened)
    if columns:
        for row in prange(x.shape[0], nogil=True, num_threads=threads):
            status += 0 != fd.apply(
                &opened, <uint64_t>(row * columns), fastdrop.FASTDROP_FLOAT32, 1, &columns,
                &x[row, 0], &item, &x[row, 0], &item,
            )
    if status:
        raise RuntimeError(f"the mask of {status} rows could not be made")
