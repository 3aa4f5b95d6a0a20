"""Tells whether a gradient's memory may be overwritten.

If nothing else holds a gradient, it can be masked in place, which saves an array
and a pass over memory. torch's autograd engine adds gradients in place by the
same rule.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any, Final

import torch
from torch import Tensor

from ._masks import undisturbed

# Older versions of torch have neither.
_use_count: Any = getattr(Tensor, "_use_count", None)
_storage_use_count: Any = getattr(torch._C, "_storage_Use_Count", None)


def _references(box: list[Tensor]) -> tuple[int, ...]:
    """Count references to a list's only tensor, to its memory, and to the base of a view.

    Python objects and C++ objects have separate counts. Counts include this function's
    references, so compare them only with its other results. One entry says whether
    torch's allocator provided the memory.
    """
    storage = box[0].untyped_storage()
    counts = (
        getrefcount(box[0]),
        _use_count(box[0]),
        getrefcount(storage),
        _storage_use_count(storage._cdata),
        storage.resizable(),
    )
    if box[0]._base is None:
        return counts
    return *counts, getrefcount(box[0]._base), _use_count(box[0]._base)


def _nobody_elses() -> tuple[tuple[int, ...], ...]:
    """Return the counts of a tensor and of a view that only their lists hold."""
    if _use_count is None or _storage_use_count is None:
        return ()
    with undisturbed():
        return _references([torch.ones(1)]), _references([torch.ones(1).view(1, 1)])


_FREE: Final = _nobody_elses()


def is_free(box: list[Tensor]) -> bool:
    """Return whether only this list holds its tensor, and only that tensor its memory.

    Memory from elsewhere, such as a NumPy array's, is never free.
    """
    return bool(_FREE) and _references(box) in _FREE
