/* The codes of NumPy's type numbers. */
#ifndef DROP_NUMPY_DTYPES_H
#define DROP_NUMPY_DTYPES_H

#include <Python.h>
#include <numpy/ndarraytypes.h>

#include "kernels/kernels.h"

/* A drop_dtype, or DROP_DTYPES if it is none of NumPy's own. */
static inline drop_dtype drop_dtype_of(int type_num)
{
    static const unsigned char known[NPY_NOTYPE + 1] = {
#define DTYPE_EACH(name, CODE, numpy, NUM, ...) [NUM] = 1 + DROP_##CODE,
#include "kernels/dtypes.def"
    };
    const int found = type_num >= 0 && type_num < NPY_NOTYPE ? known[type_num] : 0;
    return found ? (drop_dtype)(found - 1) : DROP_DTYPES;
}

#endif
