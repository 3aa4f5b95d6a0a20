"""torch's own matrix products, for kernels that call them between their steps."""

from __future__ import annotations

import ctypes
from typing import Final

import torch


def find() -> tuple[int, int] | None:
    """Return the addresses of the BLAS functions sgemm and dgemm that torch is linked with.

    Builds with MKL, OpenBLAS or Accelerate have them. None if this one has not.
    """
    try:
        library = ctypes.CDLL(torch._C.__file__)  # loaded already; searched with its dependencies
        single, double = (
            ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            for name in ("sgemm_", "dgemm_")
        )
    except (OSError, AttributeError):
        return None
    return (single, double) if single and double else None


products: Final = find()
