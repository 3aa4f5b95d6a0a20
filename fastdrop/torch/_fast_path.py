"""A short path for dropout of ordinary tensors.

The other modules do the same in more steps. In a model each step is about ten times
slower than in a loop of its own, because torch's operations between two dropouts empty
the caches. So this path touches as little as possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from .. import backends
from .._cy import core
from ..mask_format import Rate, rate
from ..rng import DEFAULT
from ..rng.base import check_status
from . import _openmp
from ._autograd import SMALL, record, refuse_if_fixed
from ._internals import (
    count_modes,
    forward_ad,
    is_jit_tracing,
    is_profiling,
    is_traced_before_autograd,
    is_transforming,
)
from ._kinds import Kind
from ._masks import CODES, FILL, ONE, PLAIN, is_dense, new_key, new_key_address, undisturbed
from ._operators import shape_of_channels

_REAL: Final = {dtype: code for dtype, code in CODES.items() if not dtype.is_complex}
with undisturbed():
    _ONES: Final = {dtype: torch.from_numpy(np.ones(SMALL)).to(dtype) for dtype in _REAL}
    _ONES_AT: Final = {dtype: ones.data_ptr() for dtype, ones in _ONES.items()}
_empty_like: Final = torch.empty_like
_is_grad_enabled: Final = torch.is_grad_enabled
_num_threads: Final = torch.get_num_threads
_count_change: Final = torch.autograd.graph.increment_version
_apply_by: Final[Any] = core and core.apply_by
_apply_few: Final[Any] = core and core.apply_few

Kernel = Callable[[Tensor, float, bool], Tensor]


def with_usual(other: Kernel, kind: Kind, inplace: bool, operator: Kernel | None = None) -> Kernel:
    """Return a kernel that leaves all but ordinary tensors to another kernel.

    With an `operator`, the result is for calls that bypass torch's dispatcher, because the
    dispatcher's calls into and out of Python cost more than a small dropout. If the dispatcher
    must do more than call the kernel, the operator is called.
    """
    usual = _usual_elements if kind == Kind() else _usual_channels
    taken = other if kind.alpha else usual(other, inplace)
    if operator is None:
        return taken

    def dropout(input: Tensor, p: float, train: bool) -> Tensor:
        if (
            type(input) not in PLAIN
            or type(p) is not float
            or train is not True
            or not input.is_cpu
            or is_transforming()
            or is_jit_tracing()
            or is_profiling()
            or is_traced_before_autograd()
        ):
            return operator(input, p, train)
        return taken(input, p, train)

    return dropout


def _usual_elements(other: Kernel, inplace: bool) -> Kernel:
    def dropout(x: Tensor, p: float, train: bool) -> Tensor:
        dtype = x.dtype
        if not (
            type(x) in PLAIN
            and train
            and 0.0 < p <= 1.0
            and dtype in _REAL
            and is_dense(x)
            and (n := x.numel())
            and (is_contiguous := x.is_contiguous()) | (not inplace)
            and (at := x.data_ptr())  # 0 if x represents zeros without memory
            and backends.current().name == "cython"
            and not (x.is_neg() or count_modes())
        ):
            return other(x, p, train)
        dual = forward_ad._current_level >= 0
        recorded = dual or (x.requires_grad and _is_grad_enabled())
        mask = rate(p)
        if recorded and n <= SMALL:
            # The product counts as a change, and may refuse it itself.
            if inplace and (x._base is not None or x.is_leaf):
                refuse_if_fixed(x)
            y = _empty_like(x)
            if is_contiguous:
                _write_few(mask, dtype, n, _ONES_AT[dtype], y)
            else:
                _write(mask, dtype, x.shape, _ONES_AT[dtype], (0,) * x.dim(), y, y.stride())
            return x.mul_(y) if inplace else x * y
        if inplace:
            if dual:
                return other(x, p, train)
            refuse_if_fixed(x)
        y = x if inplace else _empty_like(x)
        if n <= SMALL and is_contiguous and not recorded:
            _write_few(mask, dtype, n, at, y)
        elif is_contiguous:
            key = _write(mask, dtype, (n,), at, ONE, y, ONE)
        else:
            key = _write(mask, dtype, x.shape, at, x.stride(), y, y.stride())
        if recorded:
            return record(x, ((*key, mask, mask.scale), y, False))
        if inplace:
            _count_change(x)
        return y

    return dropout


def _usual_channels(other: Kernel, inplace: bool) -> Kernel:
    def dropout(x: Tensor, p: float, train: bool) -> Tensor:
        dtype, shape = x.dtype, x.shape
        if not (
            type(x) in PLAIN
            and train
            and 0.0 < p <= 1.0
            and dtype in _REAL
            and is_dense(x)
            and len(shape) > 2
            and 0 < (n := shape[0] * shape[1]) <= SMALL
            and x.numel()
            and backends.current().name == "cython"
            and not count_modes()
        ):
            return other(x, p, train)
        if inplace:
            refuse_if_fixed(x)
        y = x.new_empty(shape_of_channels(x))
        _write_few(rate(p), dtype, n, _ONES_AT[dtype], y)
        return x.mul_(y) if inplace else x * y

    return dropout


def _write_few(mask: Rate, dtype: torch.dtype, n: int, at: int, y: Tensor) -> None:
    """Apply a new mask to n contiguous elements at an address, and write them to y."""
    to, code = y.data_ptr(), _REAL[dtype]
    # Use it at once: a finalizer or signal handler might draw this thread's next key.
    key = new_key_address()
    status = _apply_few(FILL, key, mask.threshold, mask.scale, code, n, at, to)
    if status:
        check_status(status, DEFAULT.name)


def _write(
    mask: Rate,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    at: int,
    strides: tuple[int, ...],
    y: Tensor,
    y_strides: tuple[int, ...],
) -> tuple[int, int]:
    """Apply a new mask to elements at an address, write them to y, and return the mask's key."""
    key = new_key(None)
    status = _apply_by(
        _openmp.team,
        FILL,
        *key,
        mask.threshold,
        mask.scale,
        _REAL[dtype],
        tuple(shape),
        at,
        strides,
        y.data_ptr(),
        y_strides,
        _num_threads(),
    )
    if status:
        check_status(status, DEFAULT.name)
    return key
