/* The mean of each row's kept elements, in C: the mask's bits are made row by row and never held as a whole. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fastdrop.h>

static const fastdrop_api *fd;

/* One row; 0, or why the mask's bits could not be made. */
static int mean_of_row(const fastdrop_mask *mask, const double *x, size_t row, size_t columns, uint64_t *bits,
                       double *mean)
{
    double sum = 0;
    size_t kept = 0;
    const int status = fd->bits(mask, row * columns, columns, bits);
    if (status) return status;
    for (size_t i = 0; i < columns; i++)
        if (bits[i / 64] >> i % 64 & 1) sum += x[row * columns + i], kept++;
    *mean = kept ? sum / (double)kept : 0;
    return 0;
}

static PyObject *kept_means(PyObject *self, PyObject *arguments)
{
    PyObject *array, *mask_object, *means = NULL;
    Py_buffer x;
    fastdrop_mask mask;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO", &array, &mask_object)) return NULL;
    if (fd->open_mask(mask_object, &mask)) return NULL;
    if (PyObject_GetBuffer(array, &x, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)) return NULL;
    if (x.ndim != 2 || strcmp(x.format, "d") != 0) {
        PyErr_SetString(PyExc_TypeError, "x must be a contiguous float64 array with 2 axes");
    } else {
        const size_t rows = (size_t)x.shape[0], columns = (size_t)x.shape[1];
        uint64_t *bits = PyMem_RawMalloc((columns / 64 + 1) * sizeof *bits);
        double *results = PyMem_RawMalloc((rows + 1) * sizeof *results);
        int status = bits && results ? 0 : FASTDROP_NO_MEMORY;
        Py_BEGIN_ALLOW_THREADS
        for (size_t row = 0; row < rows && !status; row++)
            status = mean_of_row(&mask, x.buf, row, columns, bits, &results[row]);
        Py_END_ALLOW_THREADS
        if (status) PyErr_Format(PyExc_RuntimeError, "fastdrop's bits failed with status %d", status);
        else means = PyList_New((Py_ssize_t)rows);
        for (size_t row = 0; means && row < rows; row++) {
            PyObject *mean = PyFloat_FromDouble(results[row]);
            if (mean) PyList_SET_ITEM(means, (Py_ssize_t)row, mean);
            else Py_CLEAR(means);
        }
        PyMem_RawFree(bits);
        PyMem_RawFree(results);
    }
    PyBuffer_Release(&x);
    return means;
}

static PyMethodDef methods[] = {
    {"kept_means", kept_means, METH_VARARGS, "Return the mean of each row's kept elements."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "keptmean", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_keptmean(void)
{
    fd = fastdrop_import();
    return fd ? PyModule_Create(&module) : NULL;
}
