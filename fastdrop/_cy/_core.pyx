# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True
"""The C kernels' binding to Python: addresses and arrays in, status out."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

cnp.import_array()


cdef const drop_kernels *kernels = drop_isa_kernels(NULL)


def available_isas():
    """Return the instruction sets that this build and this processor share, best first."""
    cdef const char *const *names = drop_isa_names()
    found = []
    while names[0] != NULL:
        found.append(names[0].decode())
        names += 1
    return found


def choose_isa(name):
    """Make a named instruction set's kernels the ones that run."""
    global kernels
    cdef const drop_kernels *chosen = drop_isa_kernels(name.encode())
    if chosen == NULL:
        raise ValueError(f"FASTDROP_ISA must be one of {available_isas()} here, but got {name!r}")
    kernels = chosen


def isa():
    """Return the instruction set whose kernels run."""
    return kernels.name.decode()


def fill_address(name):
    """Return the address of a built-in generator's `fill`."""
    cdef fastdrop_fill fill
    if name == "philox4x32":
        fill = kernels.philox4x32
    elif name == "philox":
        fill = kernels.philox4x64
    elif name == "pcg64":
        fill = kernels.pcg64
    elif name == "sequential":
        fill = drop_sequential_fill
    else:
        raise ValueError(f"no built-in generator is named {name!r}")
    return <uintptr_t>fill


cdef inline drop_dtype dtype_code(int type_num) noexcept:
    if type_num == cnp.NPY_FLOAT32:
        return DROP_F32
    if type_num == cnp.NPY_FLOAT64:
        return DROP_F64
    if type_num == cnp.NPY_FLOAT16:
        return DROP_F16
    if type_num == cnp.NPY_COMPLEX64:
        return DROP_C64
    if type_num == cnp.NPY_COMPLEX128:
        return DROP_C128
    return DROP_BF16  # ml_dtypes' number differs from run to run; callers let in no other


cdef inline bint is_plain_array(object x) noexcept:
    """Whether x is an array that needs no further check: NumPy's own class, dtype, byte order."""
    cdef int num
    if not cnp.PyArray_CheckExact(x):
        return False
    num = cnp.PyArray_TYPE(<cnp.ndarray>x)
    return (num == cnp.NPY_FLOAT32 or num == cnp.NPY_FLOAT64 or num == cnp.NPY_FLOAT16
            or num == cnp.NPY_COMPLEX64 or num == cnp.NPY_COMPLEX128) and (
                PyArray_ISNOTSWAPPED(<cnp.ndarray>x))


cdef inline bint is_apart(cnp.ndarray x, cnp.ndarray y) noexcept:
    """Whether y is a writable C-contiguous twin of the C-contiguous x, in memory of its own."""
    cdef int i, flags = cnp.NPY_ARRAY_C_CONTIGUOUS
    cdef uintptr_t a = <uintptr_t>cnp.PyArray_DATA(x), b = <uintptr_t>cnp.PyArray_DATA(y)
    cdef uintptr_t nbytes = <uintptr_t>cnp.PyArray_NBYTES(x)
    if not (cnp.PyArray_CHKFLAGS(x, flags)
            and cnp.PyArray_CHKFLAGS(y, flags | cnp.NPY_ARRAY_WRITEABLE)):
        return False
    if (cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(y) or cnp.PyArray_NDIM(x) != cnp.PyArray_NDIM(y)
            or not (a + nbytes <= b or b + nbytes <= a)):
        return False
    for i in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(x, i) != cnp.PyArray_DIM(y, i):
            return False
    return True


def is_plain(x, p=0.0):
    """Return whether `x` is an array of NumPy's own class, a supported dtype, native.

    And `p` a float between 0 and 1: two arguments that need no further look.
    """
    return type(p) is float and 0.0 <= <double>p <= 1.0 and is_plain_array(x)


def plain_shape(x):
    """Return the shape of such an array, and None for others."""
    return (PyArray_IntTupleFromIntp(cnp.PyArray_NDIM(<cnp.ndarray>x), cnp.PyArray_DIMS(<cnp.ndarray>x))
            if is_plain_array(x) else None)


def prepare(x, bint inplace, out):
    """Return the array to write to in the common cases, None where arrays.py has to look."""
    return prepared(x, inplace, out)


cdef prepared(x, bint inplace, out):
    cdef cnp.ndarray a
    if not is_plain_array(x):
        return None
    a = <cnp.ndarray>x
    if out is None:
        if not inplace:
            return PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, NULL, 0)
        out = x
    if out is x:
        if cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_WRITEABLE) and (
                cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_C_CONTIGUOUS)):
            return x
    elif not inplace and is_plain_array(out) and is_apart(a, <cnp.ndarray>out):
        return out
    return None


@cython.auto_pickle(False)  # Clang refuses the code that would be made of an atomic's value
cdef class Counter:
    """Words of a stream that have been given out (see rng/counter.py)."""

    cdef atomic_ullong taken
    cdef readonly uint64_t limit

    def __init__(self, uint64_t taken, uint64_t limit):
        atomic_store(&self.taken, taken)
        self.limit = limit

    @property
    def position(self):
        return atomic_load(&self.taken)

    def take(self, uint64_t words):
        """Return the position of the next `words` words, which no other call gets."""
        return self.take_words(words)

    cdef unsigned long long take_words(self, uint64_t words) except? 0:
        cdef unsigned long long now = atomic_load(&self.taken)
        while True:
            if words > self.limit - now:
                raise RuntimeError(
                    f"the stream has {self.limit - now} words left, but {words} are needed: "
                    "seed it anew"
                )
            if atomic_compare_exchange_weak(&self.taken, &now, now + words):
                return now

    def give_back(self, uint64_t position, uint64_t words):
        """Undo a `take` of which no word was used, unless there has been another since."""
        self.give_words_back(position, words)

    cdef void give_words_back(self, uint64_t position, uint64_t words) noexcept:
        cdef unsigned long long now = position + words
        # The exchange may fail for no reason, and says so by leaving `now` as it was.
        while now == position + words and not atomic_compare_exchange_weak(
                &self.taken, &now, position):
            pass


cdef inline drop_mask make_mask(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold) except *:
    cdef drop_mask mask
    if fill == 0:
        raise TypeError(
            "an RNG must have a capsule with a compiled fill for this backend, but capsule is None"
        )
    mask.fill = <fastdrop_fill>fill
    mask.key = <const void *>key
    mask.draw = draw
    mask.threshold = threshold
    return mask


cdef inline void set_arrays(drop_arrays *arrays, cnp.ndarray x, cnp.ndarray y) noexcept:
    cdef int i
    arrays.ndim = cnp.PyArray_NDIM(x)
    arrays.x = <const char *>cnp.PyArray_DATA(x)
    arrays.y = <char *>cnp.PyArray_DATA(y)
    for i in range(arrays.ndim):
        arrays.shape[i] = cnp.PyArray_DIM(x, i)
        arrays.x_stride[i] = cnp.PyArray_STRIDE(x, i)
        arrays.y_stride[i] = cnp.PyArray_STRIDE(y, i)


cdef int run_apply(const drop_mask *mask, uint64_t first, cnp.ndarray x, cnp.ndarray y,
                   double scale, int threads):
    # Giving the GIL up and taking it back costs as much as a small array does.
    cdef bint is_short = cnp.PyArray_SIZE(x) <= DROP_BLOCK
    cdef drop_dtype dtype = dtype_code(cnp.PyArray_TYPE(x))
    cdef drop_arrays arrays
    cdef int status
    set_arrays(&arrays, x, y)
    if is_short:
        return drop_apply(kernels, mask, first, &arrays, dtype, scale, threads)
    with nogil:
        status = drop_apply(kernels, mask, first, &arrays, dtype, scale, threads)
    return status


def apply(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold, double scale,
          uint64_t first, cnp.ndarray x, cnp.ndarray y, int threads):
    """Write y = keep ? x * scale : 0; return the status (see walk.h)."""
    cdef drop_mask mask = make_mask(fill, key, draw, threshold)
    return run_apply(&mask, first, x, y, scale, threads)


class KernelError(Exception):
    """A kernel's status that is not 0 (see walk.h)."""


def draw(stream, Counter counter, uintptr_t fill, uintptr_t key, uint64_t block_words, uint64_t threshold,
         double scale, x, bint inplace, out, get_num_threads):
    """Prepare the output, take a range of the stream and apply its mask, all in one call.

    Return the output, the stream and the range's position; None, with nothing
    taken, where arrays.py has to look at the arrays.
    """
    cdef drop_mask mask = make_mask(fill, key, 0, threshold)
    cdef int status, threads
    y = prepared(x, inplace, out)
    if y is None:
        return None
    cdef uint64_t words = (<uint64_t>cnp.PyArray_SIZE(x) + DROP_BLOCK - 1) // DROP_BLOCK * block_words
    mask.draw = counter.take_words(words)
    threads = get_num_threads() if cnp.PyArray_SIZE(x) >= DROP_SERIAL_BELOW else 1
    status = run_apply(&mask, 0, <cnp.ndarray>x, <cnp.ndarray>y, scale, threads)
    if status == DROP_NO_MEMORY:
        counter.give_words_back(mask.draw, words)  # nothing was written
    if status:
        raise KernelError(status)
    return y, stream, mask.draw


cdef class Team:
    """An OpenMP team: the addresses of three functions of its runtime (see team.h)."""

    cdef drop_team functions

    def __init__(self, uintptr_t parallel, uintptr_t member, uintptr_t size):
        self.functions.parallel = <drop_team_region>parallel
        self.functions.member = <drop_team_number>member
        self.functions.size = <drop_team_number>size


def apply_by(Team team, uintptr_t fill, uint64_t key0, uint64_t key1, uint64_t threshold,
             double scale, int dtype, tuple shape, uintptr_t x, tuple x_strides, uintptr_t y,
             tuple y_strides, int threads, double shift=0.0, double dropped=0.0):
    """Write y = keep ? x * scale + shift : dropped, all by address; return the status.

    A team's threads do it (None: our own). Strides count elements.
    """
    cdef uint64_t[2] key = [key0, key1]
    cdef drop_mask mask = make_mask(fill, <uintptr_t>&key[0], 0, threshold)
    cdef const drop_team *functions = NULL if team is None else &team.functions
    cdef drop_arrays arrays
    cdef drop_numbers affine
    cdef int i, status, size = drop_item_size(<drop_dtype>dtype)
    arrays.ndim = len(shape)
    if arrays.ndim > DROP_MAX_DIMS:
        raise ValueError(f"x must have at most {DROP_MAX_DIMS} dimensions, but has {arrays.ndim}")
    affine.scale = scale
    affine.shift = shift
    affine.dropped = dropped
    arrays.x = <const char *>x
    arrays.y = <char *>y
    for i in range(arrays.ndim):
        arrays.shape[i] = shape[i]
        arrays.x_stride[i] = <Py_ssize_t>x_strides[i] * size
        arrays.y_stride[i] = <Py_ssize_t>y_strides[i] * size
    with nogil:
        status = drop_affine_by(functions, kernels, &mask, &arrays, <drop_dtype>dtype, &affine,
                                threads)
    return status


def ones_by(Team team, uintptr_t fill, uint64_t key0, uint64_t key1, uint64_t threshold,
            uint64_t n, uintptr_t out, int item, int threads):
    """Write the first n keep bits as numbers, bytes or bfloat16, by address; return the status."""
    cdef uint64_t[2] key = [key0, key1]
    cdef drop_mask mask = make_mask(fill, <uintptr_t>&key[0], 0, threshold)
    cdef const drop_team *functions = NULL if team is None else &team.functions
    cdef int status
    with nogil:
        status = drop_ones_by(functions, kernels, &mask, n, <uint8_t *>out, item, threads)
    return status


def apply_few(uintptr_t fill, uintptr_t key, uint64_t threshold, double scale, int dtype,
              Py_ssize_t n, uintptr_t x, uintptr_t y):
    """Run `apply` on so few contiguous elements that other threads may wait for it."""
    cdef drop_mask mask = make_mask(fill, key, 0, threshold)
    cdef int size = drop_item_size(<drop_dtype>dtype)
    cdef drop_arrays arrays
    arrays.ndim = 1
    arrays.shape[0] = n
    arrays.x = <const char *>x
    arrays.y = <char *>y
    arrays.x_stride[0] = arrays.y_stride[0] = size
    return drop_apply(kernels, &mask, 0, &arrays, <drop_dtype>dtype, scale, 1)


def bits(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold, uint64_t first,
         uint64_t n, cnp.ndarray out, int threads):
    """Write packed keep bits to the contiguous uint8 array `out`; return the status."""
    cdef drop_mask mask = make_mask(fill, key, draw, threshold)
    cdef uint8_t *to = <uint8_t *>cnp.PyArray_DATA(out)
    cdef int status
    with nogil:
        status = drop_bits(kernels, &mask, first, n, to, threads)
    return status


cdef void set_axes(drop_operation *op, tuple strides, tuple inputs, cnp.ndarray y):
    cdef int i, k, ndim = cnp.PyArray_NDIM(y)
    cdef cnp.ndarray a
    op.grid.ndim = op.mask_grid.ndim = ndim
    op.grid.arrays = 1 + len(inputs)
    op.mask_grid.arrays = 1
    op.dtype = dtype_code(cnp.PyArray_TYPE(y))
    op.y = <char *>cnp.PyArray_DATA(y)
    for i in range(ndim):
        op.grid.shape[i] = op.mask_grid.shape[i] = cnp.PyArray_DIM(y, i)
        op.grid.stride[0][i] = cnp.PyArray_STRIDE(y, i)
        op.mask_grid.stride[0][i] = strides[i]
    for k in range(len(inputs)):
        a = inputs[k]
        op.at[k] = <const char *>cnp.PyArray_DATA(a)
        for i in range(ndim):
            op.grid.stride[1 + k][i] = cnp.PyArray_STRIDE(a, i)


cdef int run_operation(drop_operation *op, int form, double scale, double shift, double dropped,
                       int threads):
    cdef int status
    op.form = <drop_form>form
    op.numbers.scale = scale
    op.numbers.shift = shift
    op.numbers.dropped = dropped
    with nogil:
        status = drop_evaluate(kernels, op, threads)
    return status


def evaluate(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold, uint64_t first,
             tuple strides, uint64_t shared, int form, double scale, double shift, double dropped,
             tuple inputs, cnp.ndarray y, int threads):
    """Write a form of the inputs, each of y's shape, under a mask; return the status.

    It is in C order or, if `shared` is not 0, its first elements, that many, walked with strides.
    """
    cdef drop_mask mask = make_mask(fill, key, draw, threshold)
    cdef drop_operation op
    cdef uint64_t *bits = NULL
    cdef int status
    set_axes(&op, strides, inputs, y)
    if shared:
        bits = <uint64_t *>malloc((shared + 63) // 64 * sizeof(uint64_t))
        if bits == NULL:
            return DROP_NO_MEMORY
        with nogil:
            status = drop_bits(kernels, &mask, first, shared, <uint8_t *>bits, threads)
        if status:
            free(bits)
            return status
    op.bits = bits
    op.mask = &mask
    op.first = first
    status = run_operation(&op, form, scale, shift, dropped, threads)
    free(bits)
    return status


def evaluate_bits(cnp.ndarray keep, tuple strides, int form, double scale, double shift,
                  double dropped, tuple inputs, cnp.ndarray y, int threads):
    """Do so under packed bits, walked with strides."""
    cdef drop_operation op
    set_axes(&op, strides, inputs, y)
    op.bits = <const uint64_t *>cnp.PyArray_DATA(keep)
    op.mask = NULL
    return run_operation(&op, form, scale, shift, dropped, threads)


def add_noise(uintptr_t fill, uintptr_t key, uint64_t draw, bint factor, double spread,
              cnp.ndarray x, cnp.ndarray y, int threads):
    """Write x with noise to y; return the status (see noise.h)."""
    cdef drop_mask mask = make_mask(fill, key, draw, 0)
    cdef drop_noise noise
    cdef drop_arrays arrays
    cdef drop_dtype dtype = dtype_code(cnp.PyArray_TYPE(x))
    cdef int status
    noise.fill = mask.fill
    noise.key = mask.key
    noise.draw = mask.draw
    noise.factor = factor
    noise.spread = spread
    set_arrays(&arrays, x, y)
    with nogil:
        status = drop_add_noise(kernels, &noise, &arrays, dtype, threads)
    return status


NO_MEMORY = DROP_NO_MEMORY
