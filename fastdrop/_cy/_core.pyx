# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True
"""The C kernels' binding to Python: addresses and arrays in, status out."""

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

cnp.import_array()


# Counted up after each change of a name or of arguments here: see __init__.py.
INTERFACE = 9

drop_choose_isa(NULL)


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
    if not drop_choose_isa(name.encode()):
        raise ValueError(f"FASTDROP_ISA must be one of {available_isas()} here, but got {name!r}")


def isa():
    """Return the instruction set whose kernels run."""
    return drop_chosen_kernels().name.decode()


def random_words():
    """Return what makes the default generator's words, in words for users."""
    return drop_chosen_kernels().words.decode()


def newest_pipeline():
    """Return the instruction set whose pipeline ran last, and forget it; None if none has run.

    For tests: a pipeline that is not found costs time and no error.
    """
    cdef const char *name = drop_take_pipeline()
    return None if name == NULL else name.decode()


def fill_address(name):
    """Return the address of a built-in generator's `fill`, one for all instruction sets."""
    cdef fastdrop_fill fill = drop_sequential_fill
    if name != "sequential":
        fill = drop_generator_fill(<drop_generator><int>GENERATORS[name])
    return <uintptr_t>fill


# The C tables' names and codes: Python asks for a code by its name, never by a number of its own.
DTYPES = {drop_dtype_name(<drop_dtype>code).decode(): code for code in range(DROP_DTYPES)}
GENERATORS = {drop_generator_name(<drop_generator>code).decode(): code for code in range(DROP_GENERATORS)}
FORMS = {drop_form_name(<drop_form>code).decode(): code for code in range(DROP_FORMS)}
OPERANDS = {name: drop_form_operands(<drop_form><int>code) for name, code in FORMS.items()}


cdef int other_library = 0  # type number and code of the dtype that was asked for last, as one number


cdef inline drop_dtype dtype_code(int type_num) except DROP_DTYPES:
    """Return the code of a dtype of NumPy's own, or of one that another library has registered."""
    cdef drop_dtype code = drop_dtype_of(type_num)
    if code != DROP_DTYPES:
        return code
    if other_library and other_library >> 8 == type_num:
        return <drop_dtype>(other_library & 255)
    return other_dtype_code(type_num)


cdef drop_dtype other_dtype_code(int type_num) except DROP_DTYPES:
    """Return the code of a registered dtype, by its name: its number differs from run to run."""
    global other_library
    cdef int code
    try:
        dtype = cnp.PyArray_DescrFromType(type_num)
    except ValueError:
        dtype = None
    if type_num >= NPY_USERDEF and dtype is not None and dtype.name in DTYPES:
        code = DTYPES[dtype.name]
        if dtype.itemsize == drop_item_size(<drop_dtype>code):
            other_library = type_num << 8 | code
            return <drop_dtype>code
    raise TypeError(f"the kernels have no code for NumPy's type number {type_num}, dtype {dtype}")


cdef inline bint is_plain_array(object x) noexcept:
    """Whether x is an array that needs no further check: NumPy's own class, dtype, byte order."""
    return (cnp.PyArray_CheckExact(x)
            and drop_dtype_of(cnp.PyArray_TYPE(<cnp.ndarray>x)) != DROP_DTYPES
            and PyArray_ISNOTSWAPPED(<cnp.ndarray>x))


cdef inline bint is_apart(cnp.ndarray x, cnp.ndarray y) noexcept:
    """Whether y is a writable C-contiguous array like the C-contiguous x, in memory of its own."""
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
    cdef object stream  # and the addresses that its words are made by, for `draw`
    cdef uintptr_t fill, key

    def __init__(self, uint64_t taken, uint64_t limit, stream=None):
        atomic_store(&self.taken, taken)
        self.limit, self.stream = limit, stream
        if stream is not None:
            self.fill, self.key = stream.fill_address, stream.key_address

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
    mask.fill = drop_chosen_fill(<fastdrop_fill>fill)
    mask.key = <const void *>key
    mask.draw = draw
    mask.threshold = threshold
    return mask


cdef inline void set_array(drop_arrays *arrays, int k, cnp.ndarray a) noexcept:
    cdef int i
    arrays.at[k] = <char *>cnp.PyArray_DATA(a)
    for i in range(cnp.PyArray_NDIM(a)):
        arrays.stride[k][i] = cnp.PyArray_STRIDE(a, i)


cdef inline void set_output(drop_arrays *arrays, cnp.ndarray y, int inputs) except *:
    """Set array 0, whose shape and dtype all have, and how many others there will be."""
    cdef int i
    arrays.ndim = cnp.PyArray_NDIM(y)
    arrays.count = 1 + inputs
    arrays.dtype = dtype_code(cnp.PyArray_TYPE(y))
    for i in range(arrays.ndim):
        arrays.shape[i] = cnp.PyArray_DIM(y, i)
    set_array(arrays, 0, y)


cdef inline void set_scale(drop_operation *op, const drop_mask *mask, double scale) noexcept:
    """Make it dropout, and nothing else, from the mask's first element on."""
    op.mask = mask
    op.first = 0
    op.bits = NULL
    op.form = DROP_SCALE
    op.numbers = drop_numbers(scale, 0, 0)


cdef int run(drop_operation *op, int threads, const drop_team *team) noexcept:
    cdef drop_workers by = drop_workers(threads, team)
    cdef int status
    # Giving the GIL up and taking it back costs as much as a small array does.
    if count_elements(&op.arrays) <= DROP_BLOCK:
        return drop_evaluate(drop_chosen_kernels(), op, by)
    with nogil:
        status = drop_evaluate(drop_chosen_kernels(), op, by)
    return status


cdef int run_scale(const drop_mask *mask, uint64_t first, cnp.ndarray x, cnp.ndarray y,
                   double scale, int threads):
    cdef drop_operation op
    set_scale(&op, mask, scale)
    op.first = first
    set_output(&op.arrays, y, 1)
    set_array(&op.arrays, 1, x)
    return run(&op, threads, NULL)


def apply(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold, double scale,
          uint64_t first, cnp.ndarray x, cnp.ndarray y, int threads):
    """Write y = keep ? x * scale : 0; return the status (see evaluate.h)."""
    cdef drop_mask mask = make_mask(fill, key, draw, threshold)
    return run_scale(&mask, first, x, y, scale, threads)


cdef object wanted_threads = None, failed = None


def connect(get_num_threads, on_failure):
    """Say how many threads `draw` may use, and what raises an error for a status that is not 0."""
    global wanted_threads, failed
    wanted_threads, failed = get_num_threads, on_failure


def draw(rng, rate, x, bint inplace, out):
    """Prepare the output, take a range of the stream and apply its mask, all in one call.

    Return the output, the stream and the range's position; None, with nothing taken, where
    the generator's words come in order or arrays.py has to look at the arrays.
    """
    source = rng.source
    if source is None:
        return None
    _, taken = source
    cdef Counter counter = <Counter?>taken
    cdef tuple numbers = rate.numbers
    cdef drop_mask mask = make_mask(counter.fill, counter.key, 0, numbers[1])
    cdef int status, threads
    y = prepared(x, inplace, out)
    if y is None:
        return None
    cdef uint64_t words = (<uint64_t>cnp.PyArray_SIZE(x) + DROP_BLOCK - 1) // DROP_BLOCK * <uint64_t>numbers[0]
    threads = wanted_threads() if cnp.PyArray_SIZE(x) >= DROP_SERIAL_BELOW else 1
    mask.draw = counter.take_words(words)
    status = run_scale(&mask, 0, <cnp.ndarray>x, <cnp.ndarray>y, numbers[2], threads)
    if status == DROP_NO_MEMORY:
        counter.give_words_back(mask.draw, words)  # nothing was written
    if status:
        failed(status, counter.stream)
    return y, counter.stream, mask.draw


cdef class Team:
    """An OpenMP team: the addresses of three functions of its runtime (see tasks.h)."""

    cdef drop_team functions

    def __init__(self, uintptr_t parallel, uintptr_t member, uintptr_t size):
        self.functions.parallel = <drop_team_region>parallel
        self.functions.member = <drop_team_number>member
        self.functions.size = <drop_team_number>size


cdef inline const drop_team *functions_of(Team team) noexcept:
    return NULL if team is None else &team.functions


def apply_by(Team team, uintptr_t fill, uint64_t key0, uint64_t key1, uint64_t threshold,
             double scale, int dtype, tuple shape, uintptr_t x, tuple x_strides, uintptr_t y,
             tuple y_strides, int threads, double shift=0, double dropped=0):
    """Write y = keep ? x * scale + shift : dropped, all by address; return the status.

    A team's threads do it (None: our own). Strides count elements.
    """
    cdef uint64_t[2] key = [key0, key1]
    cdef drop_mask mask = make_mask(fill, <uintptr_t>&key[0], 0, threshold)
    cdef drop_operation op
    cdef int i, size = drop_item_size(<drop_dtype>dtype)
    set_scale(&op, &mask, scale)
    if shift != 0 or dropped != 0:
        op.form = DROP_AFFINE
        op.numbers = drop_numbers(scale, shift, dropped)
    op.arrays.ndim = len(shape)
    if op.arrays.ndim > DROP_MAX_DIMS:
        raise ValueError(f"x must have at most {DROP_MAX_DIMS} dimensions, but has {op.arrays.ndim}")
    op.arrays.count = 2
    op.arrays.dtype = <drop_dtype>dtype
    op.arrays.at[0] = <char *>y
    op.arrays.at[1] = <char *>x
    for i in range(op.arrays.ndim):
        op.arrays.shape[i] = shape[i]
        op.arrays.stride[0][i] = <Py_ssize_t>y_strides[i] * size
        op.arrays.stride[1][i] = <Py_ssize_t>x_strides[i] * size
    return run(&op, threads, functions_of(team))


def apply_few(uintptr_t fill, uintptr_t key, uint64_t threshold, double scale, int dtype,
              Py_ssize_t n, uintptr_t x, uintptr_t y):
    """Run `apply` on so few contiguous elements that other threads may wait for it."""
    cdef drop_mask mask = make_mask(fill, key, 0, threshold)
    cdef drop_operation op
    set_scale(&op, &mask, scale)
    op.arrays.ndim = 1
    op.arrays.count = 2
    op.arrays.dtype = <drop_dtype>dtype
    op.arrays.shape[0] = n
    op.arrays.at[0] = <char *>y
    op.arrays.at[1] = <char *>x
    op.arrays.stride[0][0] = op.arrays.stride[1][0] = drop_item_size(<drop_dtype>dtype)
    return run(&op, 1, NULL)


cdef int run_bits(const drop_mask *mask, uint64_t first, uint64_t n, void *out, int item,
                  int threads, const drop_team *team) noexcept:
    cdef drop_workers by = drop_workers(threads, team)
    cdef int status
    with nogil:
        status = drop_bits(drop_chosen_kernels(), mask, first, n, <uint8_t *>out, item, by)
    return status


def bits(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold, uint64_t first,
         uint64_t n, cnp.ndarray out, int threads):
    """Write packed keep bits to the contiguous uint8 array `out`; return the status."""
    cdef drop_mask mask = make_mask(fill, key, draw, threshold)
    return run_bits(&mask, first, n, cnp.PyArray_DATA(out), 0, threads, NULL)


cdef inline drop_samples make_samples(uintptr_t fill, uintptr_t key, cnp.ndarray draws,
                                      uint64_t threshold) except *:
    """Return samples with the draws of a contiguous uint64 array."""
    cdef drop_samples samples
    samples.mask = make_mask(fill, key, 0, threshold)
    samples.draws = <const uint64_t *>cnp.PyArray_DATA(draws)
    samples.count = <uint64_t>cnp.PyArray_SIZE(draws)
    return samples


def window_bits(uintptr_t fill, uintptr_t key, cnp.ndarray draws, uint64_t threshold, uint64_t first,
                tuple shape, tuple strides, cnp.ndarray out, int threads):
    """Write packed keep bits of each draw's window to the contiguous uint64 array `out`; return the status.

    Its element i, j, ... is that of `first` + i * strides[0] + j * strides[1] + ...
    """
    cdef drop_samples samples = make_samples(fill, key, draws, threshold)
    cdef drop_workers by = drop_workers(threads, NULL)
    cdef drop_arrays window
    cdef int i, status
    if len(shape) > DROP_MAX_DIMS:
        raise ValueError(f"a window must have at most {DROP_MAX_DIMS} dimensions, but has {len(shape)}")
    window.ndim, window.count = len(shape), 1
    for i in range(window.ndim):
        window.shape[i] = shape[i]
        window.stride[0][i] = strides[i]
    with nogil:
        status = drop_window_bits(drop_chosen_kernels(), &samples, first, &window,
                                  <uint64_t *>cnp.PyArray_DATA(out), by)
    return status


def ones_by(Team team, uintptr_t fill, uint64_t key0, uint64_t key1, uint64_t threshold,
            uint64_t n, uintptr_t out, int item, int threads):
    """Write the first n keep bits as numbers, bytes or bfloat16, by address; return the status."""
    cdef uint64_t[2] key = [key0, key1]
    cdef drop_mask mask = make_mask(fill, <uintptr_t>&key[0], 0, threshold)
    return run_bits(&mask, 0, n, <void *>out, item, threads, functions_of(team))


cdef void set_form(drop_operation *op, tuple strides, int form, double scale, double shift,
                   double dropped, tuple inputs, cnp.ndarray y) except *:
    cdef int i, k
    op.form = <drop_form>form
    op.numbers = drop_numbers(scale, shift, dropped)
    set_output(&op.arrays, y, len(inputs))
    for k in range(len(inputs)):
        set_array(&op.arrays, 1 + k, inputs[k])
    for i in range(len(strides)):
        op.bit_stride[i] = strides[i]


def evaluate(uintptr_t fill, uintptr_t key, uint64_t draw, uint64_t threshold, uint64_t first,
             tuple strides, uint64_t shared, int form, double scale, double shift, double dropped,
             tuple inputs, cnp.ndarray y, int threads):
    """Write a form of the inputs, each of y's shape, under a mask; return the status.

    It is in C order or, if `shared` is not 0, its first elements, that many, walked with strides.
    """
    cdef drop_mask mask = make_mask(fill, key, draw, threshold)
    cdef drop_operation op
    cdef uint64_t *bits = NULL
    cdef int status = 0
    set_form(&op, strides, form, scale, shift, dropped, inputs, y)
    if shared:
        bits = <uint64_t *>malloc((shared + 63) // 64 * sizeof(uint64_t))
        if bits == NULL:
            return DROP_NO_MEMORY
        status = run_bits(&mask, first, shared, bits, 0, threads, NULL)
    op.mask = &mask
    op.first = first
    op.bits = bits
    if not status:
        status = run(&op, threads, NULL)
    free(bits)
    return status


def evaluate_samples(uintptr_t fill, uintptr_t key, cnp.ndarray draws, uint64_t threshold, uint64_t first,
                     int form, double scale, double shift, double dropped, tuple inputs, cnp.ndarray y,
                     int threads):
    """Write a form of the inputs' rows, contiguous arrays as y is, each row under a draw of its own."""
    cdef drop_samples samples = make_samples(fill, key, draws, threshold)
    cdef drop_workers by = drop_workers(threads, NULL)
    cdef drop_operation op
    cdef int status
    set_form(&op, (), form, scale, shift, dropped, inputs, y)
    op.mask = NULL
    op.first = first
    op.bits = NULL
    with nogil:
        status = drop_evaluate_samples(drop_chosen_kernels(), &op, &samples, by)
    return status


def evaluate_bits(cnp.ndarray keep, tuple strides, int form, double scale, double shift,
                  double dropped, tuple inputs, cnp.ndarray y, int threads):
    """Do so under packed bits, walked with strides."""
    cdef drop_operation op
    set_form(&op, strides, form, scale, shift, dropped, inputs, y)
    op.bits = <const uint64_t *>cnp.PyArray_DATA(keep)
    return run(&op, threads, NULL)


def add_noise(uintptr_t fill, uintptr_t key, uint64_t draw, bint factor, double spread,
              cnp.ndarray x, cnp.ndarray y, int threads):
    """Write x with noise to y; return the status (see noise.h)."""
    if cnp.PyArray_ISCOMPLEX(x) or not cnp.PyArray_SAMESHAPE(x, y):
        raise TypeError("noise needs arrays of one shape and of a real dtype")
    cdef drop_mask mask = make_mask(fill, key, draw, 0)
    cdef drop_noise noise = drop_noise(mask.fill, mask.key, draw, factor, spread)
    cdef drop_arrays arrays
    cdef drop_workers by = drop_workers(threads, NULL)
    cdef int status
    set_output(&arrays, y, 1)
    set_array(&arrays, 1, x)
    with nogil:
        status = drop_add_noise(drop_chosen_kernels(), &noise, &arrays, by)
    return status


cdef inline void *data_of(a) noexcept:
    return NULL if a is None else cnp.PyArray_DATA(<cnp.ndarray>a)


cdef void set_softmax(drop_softmax *s, tuple scores, double keep_scale, uint64_t first, keep,
                      cnp.ndarray x) except *:
    cdef cnp.ndarray bias
    scale, given, causal, row, width = scores
    s.precision = drop_precision_of(dtype_code(cnp.PyArray_TYPE(x)))
    s.rows, s.columns = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1)
    s.scale, s.keep_scale = scale, keep_scale
    s.first, s.width = first, width or s.columns
    s.bits = <const uint64_t *>data_of(keep)
    s.bias = data_of(given)
    s.bias_rows = 0
    if given is not None:
        bias = <cnp.ndarray>given
        s.bias_rows = cnp.PyArray_DIM(bias, 0)
    s.causal, s.row = causal, row


def softmax(tuple drawn, double keep_scale, uint64_t first, keep, tuple scores, cnp.ndarray x, y, lse,
            grad, delta, int threads):
    """Write the softmax of x's rows to y, or go back, in place; return the status (see softmax.h).

    drawn: what `make_mask` takes, or None for no mask, or if its bits are in `keep`. scores: a
    `Scores`. y: None to go back from `grad`, with `lse` and `delta` or without both.
    """
    cdef drop_mask mask
    cdef drop_softmax s
    cdef drop_workers by = drop_workers(threads, NULL)
    cdef void *to = data_of(y)
    cdef void *sums = data_of(lse)
    cdef void *gradient = data_of(grad)
    cdef void *deltas = data_of(delta)
    cdef void *of_x = cnp.PyArray_DATA(x)
    cdef int status
    set_softmax(&s, scores, keep_scale, first, keep, x)
    s.mask = NULL
    if drawn is not None:
        mask = make_mask(drawn[0], drawn[1], drawn[2], drawn[3])
        s.mask = &mask
    with nogil:
        if to:
            status = drop_softmax_rows(drop_chosen_kernels(), &s, of_x, to, sums, by)
        else:
            status = drop_softmax_rows_backward(drop_chosen_kernels(), &s, of_x, gradient, sums, deltas, by)
    return status


cdef void set_matrices(drop_matrices *m, tuple given, Py_ssize_t item) except *:
    """Take an address, and the strides of batches, heads and rows in elements."""
    cdef int i
    m.at = <char *><uintptr_t>given[0]
    for i in range(3):
        m.stride[i] = <Py_ssize_t>given[1 + i] * item


def attend(Team team, tuple gemm, int dtype, tuple sizes, tuple operands, uintptr_t row_stats, tuple bias,
           bint causal, double scale, uintptr_t fill, uint64_t key0, uint64_t key1,
           uint64_t threshold, double keep_scale, tuple backward, int threads):
    """Write attention with dropout, or its gradients; return the status (see attention.h).

    gemm: the addresses of sgemm_ and dgemm_. sizes: batches, heads, groups, rows, columns, width and
    value_width. operands: q, k, v and the output, as addresses and strides of batches, heads and
    rows. bias: empty, or an address, a dtype's code or -1 for bool, and four strides in bytes.
    fill: 0 for no dropout. backward: empty, or the output's gradient and those of q, k and v.
    """
    cdef uint64_t[2] key = [key0, key1]
    cdef drop_mask mask = make_mask(fill, <uintptr_t>&key[0], 0, threshold)
    cdef drop_attention a
    cdef drop_workers by = drop_workers(threads, functions_of(team))
    cdef Py_ssize_t item = drop_item_size(<drop_dtype>dtype)
    cdef bint is_backward = len(backward) > 0
    cdef int i, status
    a.gemm[0], a.gemm[1] = <drop_gemm><uintptr_t>gemm[0], <drop_gemm><uintptr_t>gemm[1]
    a.dtype = <drop_dtype>dtype
    a.batches, a.heads, a.groups, a.rows, a.columns, a.width, a.value_width = sizes
    set_matrices(&a.q, operands[0], item)
    set_matrices(&a.k, operands[1], item)
    set_matrices(&a.v, operands[2], item)
    set_matrices(&a.out, operands[3], item)
    a.row_stats = <void *>row_stats
    a.bias.at = NULL
    if bias:
        a.bias.at = <const char *><uintptr_t>bias[0]
        a.bias.dtype = DROP_DTYPES if bias[1] < 0 else <int>bias[1]
        for i in range(4):
            a.bias.stride[i] = bias[2 + i]
    a.causal = causal
    a.scale = scale
    a.keep_scale = keep_scale
    a.mask = &mask if fill else NULL
    if is_backward:
        set_matrices(&a.grad, backward[0], item)
        set_matrices(&a.dq, backward[1], item)
        set_matrices(&a.dk, backward[2], item)
        set_matrices(&a.dv, backward[3], item)
    with nogil:
        if is_backward:
            status = drop_attend_backward(drop_chosen_kernels(), &a, by)
        else:
            status = drop_attend(drop_chosen_kernels(), &a, by)
    return status


def fill_words(uintptr_t fill, uintptr_t key, uint64_t position, cnp.ndarray out, int threads):
    """Write a generator's words from `position` on to a contiguous uint64 array; return the status."""
    cdef fastdrop_fill own = drop_chosen_fill(<fastdrop_fill>fill)
    cdef uint64_t n = <uint64_t>cnp.PyArray_SIZE(out)
    cdef uint64_t *to = <uint64_t *>cnp.PyArray_DATA(out)
    cdef drop_workers by = drop_workers(threads, NULL)
    cdef int status
    with nogil:
        status = drop_words(own, <const void *>key, position, n, to, by)
    return status


cdef int open_mask(object mask, fastdrop_mask *out) except -1:
    """Make a mask for C of a `fastdrop.Mask`: the `open_mask` of include/fastdrop.h."""
    for_c = getattr(type(mask), "_for_c", None)
    if for_c is None:
        raise TypeError(f"mask must be a fastdrop.Mask, but got {type(mask).__name__}")
    drawn = for_c(mask)
    stream, rate = drawn.stream, drawn.rate
    cdef fastdrop_mask made
    made.fill = <fastdrop_fill><uintptr_t>stream.fill_address
    made.key = <const void *><uintptr_t>stream.key_address
    made.draw = drawn.position
    made.threshold = rate.threshold
    made.first = drawn.first
    made.scale = rate.scale
    out[0] = made
    return 0


drop_api.open_mask = open_mask
C_API = PyCapsule_New(<void *>&drop_api, FASTDROP_CAPSULE, NULL)
NO_MEMORY = DROP_NO_MEMORY
