"""The compiled kernels, if they were built, for the instruction set that is forced or best."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

# What Python code here calls in the extension: _core.pyx has the same number, and another one
# after each change of a name or of arguments.
INTERFACE: Final = 9

_REMEDY: Final = (
    "Install fastdrop again (pip install --force-reinstall --no-cache-dir fastdrop; in a checkout, "
    "python setup.py build_ext --inplace --force). Without that file fastdrop runs on Numba"
)


def _load() -> Any:
    """Return the extension, or None where it was not built: there was no C compiler.

    Raises
    ------
    ImportError
        If there is one that does not work here: to go on without it would be silent, and slow.
    """
    spec = find_spec("._core", __name__)
    if spec is None:
        return None
    file = spec.origin or "fastdrop._cy._core"
    try:
        if _is_cut_short(file):
            raise ImportError("the file is cut short")
        core = import_module("._core", __name__)
    except ImportError as error:
        raise ImportError(
            f"fastdrop's compiled kernels cannot be loaded from {file}: {error}. {_REMEDY}.",
            path=file,
        ) from error
    found = getattr(core, "INTERFACE", None)
    if found != INTERFACE:
        raise ImportError(
            f"fastdrop's compiled kernels in {file} belong to another version of fastdrop: "
            f"their interface must have number {INTERFACE}, but has {found}. {_REMEDY}.",
            path=file,
        )
    return core


def _is_cut_short(file: str) -> bool:
    """Whether an ELF file ends before its last table: to load it would end the process."""
    with open(file, "rb") as opened:
        head, size = opened.read(64), os.fstat(opened.fileno()).st_size
    if head[:6] != b"\x7fELF\2\1":  # of 64 bits, little-endian
        return False
    start, length, count = (
        int.from_bytes(head[slice(*at)], "little") for at in ((40, 48), (58, 60), (60, 62))
    )
    return start + length * count > size


core: Any = _load()  # the extension module, or None

# What extensions in C and Cython get (include/fastdrop.h), or None.
C_API: Final[Any] = None if core is None else core.C_API

_forced = os.environ.get("FASTDROP_ISA")
if core is not None and _forced:
    core.choose_isa(_forced)
