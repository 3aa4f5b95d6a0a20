"""The C part of the RNG interface in Python: making and opening capsules.

The layout is `fastdrop_rng` in `_cy/include/fastdrop_rng.h`. ctypes reads and writes it,
so capsules also work without the compiled extension.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final, NamedTuple

from ..checks import as_count, shown

ABI_VERSION: Final = 1
CAPSULE_NAME: Final = b"fastdrop.rng"
LONGEST_KEY: Final = 1 << 20  # words: a larger number is a mistake, and would be allocated

_ADDRESS_BITS: Final = 8 * ctypes.sizeof(ctypes.c_void_p)
if _ADDRESS_BITS != 64:
    raise ImportError(
        f"fastdrop needs a 64-bit Python, but the addresses of this one have {_ADDRESS_BITS} bits"
    )

FILL = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p
)


class _Struct(ctypes.Structure):
    _fields_ = (
        ("abi_version", ctypes.c_uint32),
        ("struct_size", ctypes.c_uint32),
        ("key_words", ctypes.c_uint64),
        ("fill", ctypes.c_void_p),
    )


class Fill(NamedTuple):
    """An opened capsule: the address of `fill`, and the number of 64-bit words in a key."""

    address: int
    key_words: int


_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", _api)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

# A capsule points to its struct but does not own it, so this list keeps structs alive.
_kept: list[Any] = []


def get_include() -> str:
    """Return the directory of ``fastdrop_rng.h`` and ``fastdrop.h``, for C and Cython.

    The first is what a generator provides, the second the masks for extensions of one's own.

    Examples
    --------
    >>> import os, fastdrop
    >>> os.listdir(fastdrop.get_include()).count("fastdrop_rng.h")
    1
    """
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), "_cy", "include")


def make_capsule(address: int, key_words: int) -> object:
    """Wrap the address of a compiled `fill` function in a capsule.

    Parameters
    ----------
    address : int
        Address of a C function of type `fastdrop_fill`, such as a Numba
        `cfunc`'s ``.address``. The caller keeps the function alive.
    key_words : int
        Number of 64-bit words in a key of this RNG, at least 1.

    Returns
    -------
    PyCapsule
        For the `capsule` attribute of an `RNG` subclass.

    Raises
    ------
    TypeError
        If an argument is not an int.
    ValueError
        If the address is NULL or too large, or `key_words` is out of range.

    Examples
    --------
    >>> import fastdrop
    >>> from fastdrop.rng.capsule import FILL
    >>> fill = FILL(lambda key, position, n, out: 0)  # in practice, a cfunc's .address
    >>> import ctypes
    >>> capsule = fastdrop.make_capsule(ctypes.cast(fill, ctypes.c_void_p).value, key_words=2)
    """
    address, key_words = as_count(address, "address"), as_count(key_words, "key_words")
    if address == 0:
        raise ValueError("address must be that of a function, but got NULL")
    if address >= 1 << 64:
        raise ValueError(f"address must have 64 bits, but got {shown(address)}")
    if not 1 <= key_words <= LONGEST_KEY:
        raise ValueError(
            f"key_words must be between 1 and {LONGEST_KEY}, but got {shown(key_words)}"
        )
    struct = _Struct(ABI_VERSION, ctypes.sizeof(_Struct), key_words, address)
    _kept.append(struct)
    capsule: object = _new(ctypes.addressof(struct), CAPSULE_NAME, None)
    return capsule


def open_capsule(capsule: object) -> Fill:
    """Check a capsule and return its contents.

    Raises
    ------
    TypeError
        If `capsule` is not a PyCapsule named "fastdrop.rng".
    ValueError
        If its version or size is wrong, or a field is NULL or out of range.
    """
    if type(capsule).__name__ != "PyCapsule" or not _is_valid(capsule, CAPSULE_NAME):
        raise TypeError(
            f"capsule must be a PyCapsule named {CAPSULE_NAME.decode()!r}, but got {shown(capsule)}"
        )
    struct = _Struct.from_address(pointer_of(capsule, CAPSULE_NAME))
    if struct.abi_version != ABI_VERSION:
        raise ValueError(
            f"capsule must have abi_version {ABI_VERSION}, but got {struct.abi_version}"
        )
    if struct.struct_size < ctypes.sizeof(_Struct):
        raise ValueError(
            f"capsule must have struct_size {ctypes.sizeof(_Struct)} or more, "
            f"but got {struct.struct_size}"
        )
    if not struct.fill:
        raise ValueError("capsule must have a fill function, but got NULL")
    if struct.key_words < 1:
        raise ValueError("capsule must have key_words of 1 or more, but got 0")
    if struct.key_words > LONGEST_KEY:
        raise ValueError(
            f"capsule must have key_words of {LONGEST_KEY} or less, but got {struct.key_words}"
        )
    return Fill(struct.fill, struct.key_words)
