"""Generators whose `fill` is a Python function, and capsules that are wrong in one field."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import fastdrop

FILL = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_uint64), ctypes.c_uint64, ctypes.c_uint64,
    ctypes.POINTER(ctypes.c_uint64),
)  # fmt: skip
kept_alive: list[Any] = []


class Header(ctypes.Structure):
    """fastdrop_rng.h's struct, written down a second time."""

    _fields_ = (
        ("abi_version", ctypes.c_uint32),
        ("struct_size", ctypes.c_uint32),
        ("key_words", ctypes.c_uint64),
        ("fill", ctypes.c_void_p),
    )


def address_of(function: Callable[..., int]) -> int:
    """Return the address of a Python function as C sees it."""
    callback = FILL(function)
    kept_alive.append(callback)
    return ctypes.cast(callback, ctypes.c_void_p).value or 0


def capsule(name: bytes = b"fastdrop.rng", **fields: int) -> object:
    """Return a capsule that is right but for the fields given."""
    header = Header(
        **{"abi_version": 1, "struct_size": 24, "key_words": 1, "fill": COUNTING} | fields
    )
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
    )
    kept_alive.extend((header, name))
    return new(ctypes.addressof(header), name, None)


def counting(key: Any, position: int, n: int, out: Any) -> int:
    """Write key + position: no random numbers, but pure."""
    for i in range(n):
        out[i] = key[0] + position + i
    return 0


COUNTING = address_of(counting)


def generator(capsule: object, **attributes: Any) -> type[fastdrop.RNG]:
    """Return a new RNG class around a capsule."""
    return type("Custom", (fastdrop.RNG,), {"name": "custom", "capsule": capsule, **attributes})
