"""Dropout inside functions that Numba compiles: masks for parallel loops of one's own.

Python reserves a mask's words. Compiled code then applies any part of the mask, in any order and
in any thread, and together the parts are what `fastdrop.dropout` gives. docs/numba.md is the guide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numba
import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable

from .arrays import dtype_name
from .backends.numba import ranges
from .backends.numba.memory import copy_bytes
from .backends.numba.ranges import DTYPES
from .checks import as_count, shown
from .mask_format import BLOCK, ONE, rate
from .rng import as_rng

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from .rng import RNGLike

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Reserved", "block_bits", "check", "dropout_range", "kept", "reserve", "threshold"]

# --- In Python ------------------------------------------------------------------------------------


class Reserved(NamedTuple):
    """A mask's place in a random stream, for compiled code.

    Attributes
    ----------
    key : ndarray of uint64, one axis
        The generator's key, and before it the addresses that compiled code calls. It is valid in
        the process that reserved it and in processes forked from that one.
    draw : numpy.uint64
        The position of the mask's first word.
    """

    key: NDArray[np.uint64]
    draw: np.uint64


def reserve(rng: RNGLike, n: int, p: float, *, dtype: DTypeLike | None = None) -> Reserved:
    """Take the random words of a mask of n elements from a generator.

    Parameters
    ----------
    rng : None, int, str, RNG, numpy.random.Generator or numpy.random.BitGenerator
        What ``fastdrop.dropout(rng=)`` takes, with random access: no MT19937 or SFC64. It moves on
        as it does for `fastdrop.dropout` of n elements.
    n : int
        The number of the mask's elements.
    p : float
        Drop probability, 0 <= p <= 1.
    dtype : dtype, optional
        The only one that `dropout_range` will be called with. Without it, Numba compiles functions
        for all of them, 1 to 4 seconds each, before it has them on disk.

    Returns
    -------
    Reserved
        ``key, draw``, to be passed to compiled code.

    Raises
    ------
    TypeError
        If `rng` can only go forward or has no compiled `fill`, or `dtype` is not one of float32,
        float64, complex64 and complex128.
    ValueError
        If `p` is outside [0, 1], or `n` is negative or 2**63 or more.
    RuntimeError
        If the generator's stream has too few words left.

    Examples
    --------
    >>> import fastdrop.numba
    >>> rng = fastdrop.ARS4x32(1)
    >>> key, draw = fastdrop.numba.reserve(rng, 10_000, 0.1, dtype="float32")
    >>> int(draw), rng.position  # three blocks of 336 words
    (0, 1008)
    """
    source, chosen, size = as_rng(rng), rate(p), as_count(n, "n")
    if size > sys.maxsize:
        raise ValueError(f"n must be below 2**63, but got {shown(size)}")
    stream = source.reserve(0)[0]
    if stream.sequential:
        raise TypeError(
            "rng must be a generator with random access for compiled code, whose threads take "
            "words in any order, but got one that can only go forward"
        )
    found = ranges.functions(stream.algorithm, chosen.block_words, size, _dtypes(dtype))
    stream, draw = source.reserve(chosen.words(size))
    return Reserved(
        ranges.reserved_array(stream, size, float(p) + 0.0, chosen, found), np.uint64(draw)
    )


def _dtypes(dtype: DTypeLike | None) -> tuple[str, ...]:
    if dtype is None:
        return DTYPES
    wanted = np.dtype(dtype)
    name = dtype_name(wanted)
    if name is None or name not in DTYPES or not wanted.isnative:
        raise TypeError(f"dtype must be None or one of {', '.join(DTYPES)}, but got {shown(dtype)}")
    return (name,)


# --- In Python and in compiled code ---------------------------------------------------------------


def threshold(p: float) -> int:
    """Return the keep probability in units of 2**-40, as `block_bits` takes it.

    Parameters
    ----------
    p : float
        Drop probability, 0 <= p <= 1.

    Returns
    -------
    int
        ``2**40 - round(p * 2**40)``, in compiled code an int64.

    Raises
    ------
    ValueError
        If `p` is outside [0, 1]. In a prange loop Numba loses it: call this before the loop.

    Examples
    --------
    >>> import fastdrop.numba
    >>> fastdrop.numba.threshold(0.25) / 2**40
    0.75
    """
    return rate(p).threshold


def kept(bits: NDArray[np.uint64] | NDArray[np.uint8], i: int) -> bool:
    """Return whether packed keep bits keep their element number i.

    Parameters
    ----------
    bits : ndarray of uint64 or uint8, one axis
        Words of `block_bits`, or bytes of `fastdrop.Mask.to_packed`.
    i : int
        From 0 to the number of bits - 1; compiled code does not check it, as Numba does not check
        an index.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np, fastdrop.numba
    >>> [fastdrop.numba.kept(np.array([0b101], np.uint8), i) for i in range(3)]
    [True, False, True]
    """
    width = {np.dtype(np.uint64): 64, np.dtype(np.uint8): 8}.get(bits.dtype)
    if width is None or bits.ndim != 1:
        raise TypeError(f"{_OF_KEPT}, but got {bits.ndim} axes of {bits.dtype}")
    return bool(int(bits[i // width]) >> i % width & 1)


def block_bits(
    key: NDArray[np.uint64],
    draw: int | np.uint64,
    threshold: int,
    block: int,
    out: NDArray[np.uint64],
) -> int:
    """Write the keep bits of a block, which is 4096 elements of the mask.

    Parameters
    ----------
    key, draw
        What `reserve` returned.
    threshold : int
        `threshold` of the p that was reserved.
    block : int
        The block's number. Its first element is number ``4096 * block`` of the mask.
    out : ndarray of uint64, one axis, C-contiguous
        Bit i mod 64 of ``out[i // 64]`` becomes 1 if element i of the block is kept, for all 4096:
        those past the mask's end mean nothing. Words from ``out[64]`` on are left.

    Returns
    -------
    int
        0, or what is wrong, for `check`. Then nothing is written, unless a generator failed.

    Examples
    --------
    >>> import numpy as np, fastdrop, fastdrop.numba as fn
    >>> key, draw = fn.reserve(fastdrop.ARS4x32(1), 5000, 0.1, dtype="float32")
    >>> bits = np.empty(64, np.uint64)
    >>> fn.check(fn.block_bits(key, draw, fn.threshold(0.1), 1, bits))
    >>> mask = np.asarray(fastdrop.mask(5000, 0.1, rng=1))
    >>> fn.kept(bits, 7) == mask[4096 + 7]
    np.True_
    """
    status: int = _block_bits(key, draw, threshold, block, out)
    return status


def dropout_range(
    key: NDArray[np.uint64],
    draw: int | np.uint64,
    p: float,
    first: int,
    x: NDArray[Any],
    out: NDArray[Any],
) -> int:
    """Drop elements of a part of an array, as `fastdrop.dropout` does of the whole one.

    It runs in the thread that calls it. Any number of threads may call it at once.

    Parameters
    ----------
    key, draw
        What `reserve` returned.
    p : float
        The drop probability that was reserved, to the last bit of a float64.
    first : int
        The number of x's first element in the mask, 0 or more. `first` + x.size is at most the n
        that was reserved. Multiples of 4096 are fastest.
    x : ndarray, C-contiguous
        Of float32, float64, complex64 or complex128, and the dtype that was reserved.
    out : ndarray, C-contiguous
        Where to write: of x's dtype and size; `x` itself, or no overlap.

    Returns
    -------
    int
        0, or what is wrong, for `check`. Then nothing is written. Only where a generator fails, the
        blocks before it are.

    Examples
    --------
    >>> import numpy as np, fastdrop, fastdrop.numba as fn
    >>> x = np.ones(10_000, np.float32)
    >>> y, half = np.empty_like(x), x.size // 2
    >>> key, draw = fn.reserve(1, x.size, 0.1, dtype=x.dtype)
    >>> for part in (slice(half, None), slice(half)):
    ...     fn.check(fn.dropout_range(key, draw, 0.1, part.start or 0, x[part], y[part]))
    >>> bool((y == fastdrop.dropout(x, 0.1, rng=1)).all())
    True
    """
    status: int = _dropout_range(key, draw, p, first, x, out)
    return status


# What can be wrong, by what `block_bits` and `dropout_range` return.
_KEY: Final = 1
_VERSION: Final = 2
_RATE: Final = 3
_PLACE: Final = 4
_SIZE: Final = 5
_OVERLAP: Final = 6
_DTYPE: Final = 7
_FILL: Final = 8


@register_jitable  # type: ignore[untyped-decorator]
def check(status: int) -> None:
    """Raise an error unless a status is 0.

    Parameters
    ----------
    status : int
        What `dropout_range` or `block_bits` returned, or the largest of several.

    Raises
    ------
    ValueError
        If an argument was wrong: the message says what is allowed.
    RuntimeError
        If the generator failed.

    Notes
    -----
    Call it outside prange loops: in one, Numba loses errors. The guide shows how.

    Examples
    --------
    >>> import fastdrop.numba
    >>> fastdrop.numba.check(0)
    """
    if status == 0:
        return
    if status == _KEY:
        raise ValueError(
            "key must be an array that fastdrop.numba.reserve returned in this process"
        )
    if status == _VERSION:
        raise ValueError(
            "key is of another version of fastdrop than this compiled code: delete Numba's cache"
        )
    if status == _RATE:
        raise ValueError(
            "p must be the one that was reserved, to the last bit of a float64 (a float32 p was "
            "rounded), and threshold that of p"
        )
    if status == _PLACE:
        raise ValueError(
            "first and block must be 0 or more, and what they begin within the n elements that "
            "were reserved"
        )
    if status == _SIZE:
        raise ValueError("out must have the size of x, or 64 words or more for block_bits")
    if status == _OVERLAP:
        raise ValueError("out must be x itself or not overlap it")
    if status == _DTYPE:
        raise ValueError("x must have the dtype that was reserved")
    raise RuntimeError(
        "the RNG failed: its fill function returned a status other than 0, or left words unwritten"
    )


# --- In compiled code -----------------------------------------------------------------------------


def _compiled(stub: F) -> Callable[[F], F]:
    """Say what a call of a function is in compiled code."""
    # Users' `fastmath` would allow LLVM to take every number for no NaN.
    return overload(stub, strict=False, jit_options={"fastmath": False})  # type: ignore[no-any-return]


@_compiled(threshold)
def _threshold_of(p: Any) -> Any:
    _check_real(p, "p")

    def threshold(p):  # type: ignore[no-untyped-def]
        if not 0.0 <= p <= 1.0:
            raise ValueError("dropout probability has to be between 0 and 1")
        return ONE - np.int64(np.rint(np.float64(p) * ONE))

    return threshold


@_compiled(kept)
def _kept_of(bits: Any, i: Any) -> Any:
    _check_integer(i, "i")
    if not (_is_array(bits, types.uint64, types.uint8) and bits.ndim == 1):
        raise TypingError(f"{_OF_KEPT}, but got {bits}")
    shift, mask = (np.uint64(n) for n in ((6, 63) if bits.dtype == types.uint64 else (3, 7)))

    def kept(bits, i):  # type: ignore[no-untyped-def]
        at = np.uint64(i)  # signed with unsigned would be float64
        return np.uint64(bits[at >> shift]) >> (at & mask) & np.uint64(1) != 0

    return kept


@register_jitable  # type: ignore[untyped-decorator]
def _status_of_key(key: Any) -> int:
    if key.size <= ranges.KEY or key[ranges.PROCESS] != ranges.process_word():
        return _KEY
    if key[ranges.LAYOUT_AT] != ranges.LAYOUT:
        return _VERSION
    return 0 if key[ranges.LENGTH] == np.uint64(key.size) else _KEY


@_compiled(block_bits)
def _block_bits_of(key: Any, draw: Any, threshold: Any, block: Any, out: Any) -> Any:
    _check_key(key, draw)
    _check_integer(threshold, "threshold")
    _check_integer(block, "block")
    if not (_is_array(out, types.uint64) and out.ndim == 1 and _is_contiguous(out, written=True)):
        raise TypingError(
            f"out must be a writable C-contiguous array of uint64 with one axis, but got {out}"
        )

    def block_bits(key, draw, threshold, block, out):  # type: ignore[no-untyped-def]
        status, number = _status_of_key(key), np.int64(block)
        if status != 0:
            return status
        if np.uint64(threshold) != key[ranges.THRESHOLD]:
            return _RATE
        blocks = (np.int64(key[ranges.SIZE]) - 1) // BLOCK + 1
        if number < 0 or number >= blocks:
            return _PLACE
        if out.size < BLOCK // 64:
            return _SIZE
        function, to = np.int64(key[ranges.BLOCK_BITS]), np.int64(out.ctypes.data)
        at = np.int64(key.ctypes.data)
        failed = ranges.call_block_bits(function, at, np.uint64(draw), number, to)
        return 0 if failed == 0 else _FILL

    return block_bits


@_compiled(dropout_range)
def _dropout_range_of(key: Any, draw: Any, p: Any, first: Any, x: Any, out: Any) -> Any:
    _check_key(key, draw)
    _check_real(p, "p")
    _check_integer(first, "first")
    if not (isinstance(x, types.Array) and str(x.dtype) in DTYPES and _is_contiguous(x)):
        raise TypingError(
            f"x must be a C-contiguous array of one of the dtypes {', '.join(DTYPES)}, but got {x}"
        )
    if not (_is_array(out, x.dtype) and _is_contiguous(out, written=True)):
        raise TypingError(
            f"out must be a writable C-contiguous array of x's dtype, {x.dtype}, but got {out}"
        )
    dtype = np.dtype(str(x.dtype))
    function_at, number, size = ranges.RANGES + DTYPES.index(dtype.name), dtype.num, dtype.itemsize

    def dropout_range(key, draw, p, first, x, out):  # type: ignore[no-untyped-def]
        status, begin, n = _status_of_key(key), np.int64(first), x.size
        if status != 0:
            return status
        if ranges.bits_of(np.float64(p)) != key[ranges.P]:
            return _RATE
        if begin < 0 or begin > np.int64(key[ranges.SIZE]) - n:
            return _PLACE
        if out.size != n:
            return _SIZE
        at, to = np.int64(x.ctypes.data), np.int64(out.ctypes.data)
        if at != to and at < to + n * size and to < at + n * size:
            return _OVERLAP
        function = np.int64(key[function_at])
        if function == 0:
            return _DTYPE
        if n == 0:
            return 0
        if p == 0:  # x as it is: a multiplication would change some NaNs
            copy_bytes(at, to, n * size)
            return 0
        reserved = np.int64(key.ctypes.data)
        failed = ranges.call_range(function, reserved, np.uint64(draw), begin, n, number, at, to)
        return 0 if failed == 0 else _FILL

    return dropout_range


# --- The types that compiled code takes -----------------------------------------------------------

_OF_KEPT: Final = "bits must be an array of uint64 or uint8 with one axis"


def _is_array(kind: Any, *dtypes: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype in dtypes


def _is_contiguous(kind: Any, written: bool = False) -> bool:
    return kind.layout == "C" and (kind.mutable or not written)


def _check_key(key: Any, draw: Any) -> None:
    if not (_is_array(key, types.uint64) and key.ndim == 1 and _is_contiguous(key)):
        raise TypingError(f"key must be an array that fastdrop.numba.reserve made, but got {key}")
    _check_integer(draw, "draw")


def _check_integer(kind: Any, name: str) -> None:
    if not isinstance(kind, types.Integer):
        raise TypingError(f"{name} must be an integer, but got {kind}")


def _check_real(kind: Any, name: str) -> None:
    if not isinstance(kind, types.Integer | types.Float):
        raise TypingError(f"{name} must be a real number, but got {kind}")


# --- Calls from Python ----------------------------------------------------------------------------


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _block_bits(key: Any, draw: Any, threshold: Any, block: Any, out: Any) -> int:
    return block_bits(key, draw, threshold, block, out)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _dropout_range(key: Any, draw: Any, p: Any, first: Any, x: Any, out: Any) -> int:
    return dropout_range(key, draw, p, first, x, out)
