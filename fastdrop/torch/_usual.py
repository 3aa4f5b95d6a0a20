"""Dropout of the usual tensor in one straight line: calls cost what they touch.

Everything here is also done, in more steps, by the modules beside this one. In a
model each step is some ten times slower than in a loop of its own: torch's
operations in between have emptied the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import backends
from .._cy import core
from ..mask_format import rate
from ..rng import Philox4x32
from ..rng.base import check_status
from . import _team
from ._masks import CODES, FILL, ONE, PLAIN, new_key, new_key_address
from ._scaled import SMALL, claim, record

_REAL: Final = {dtype: code for dtype, code in CODES.items() if not dtype.is_complex}
_ONES: Final = {dtype: torch.ones(SMALL, dtype=dtype, device="cpu") for dtype in _REAL}
_ONES_AT: Final = {dtype: ones.data_ptr() for dtype, ones in _ONES.items()}
_strided: Final = torch.strided
_modes: Final = torch._C._len_torch_dispatch_stack
_is_compiling: Final = torch.compiler.is_dynamo_compiling
_is_transforming: Final = torch._C._are_functorch_transforms_active
_is_tracing: Final = torch._C._is_tracing
_is_profiling: Final = torch._C._autograd._profiler_enabled
_empty_like: Final = torch.empty_like
_is_grad_enabled: Final = torch.is_grad_enabled
_num_threads: Final = torch.get_num_threads
_apply_by: Final[Any] = core and core.apply_by
_apply_few: Final[Any] = core and core.apply_few

Kernel = Callable[[Tensor, float, bool], Tensor]


def with_usual(other: Kernel, inplace: bool) -> Kernel:
    """Return a kernel of ``aten::dropout`` that leaves all but the usual tensor to another."""

    def dropout(x: Tensor, p: float, train: bool) -> Tensor:
        n = x.numel() if type(x) in PLAIN else 0
        dtype = x.dtype
        if not (
            n
            and train
            and 0.0 < p <= 1.0
            and dtype in _REAL
            and x.layout is _strided
            and x.is_contiguous()
            and (at := x.data_ptr())  # x may stand for zeros without having memory
            and backends.current().name == "cython"
            and not (x.is_neg() or _modes() or (inplace and forward_ad._current_level >= 0))
        ):
            return other(x, p, train)
        recorded = (x.requires_grad and _is_grad_enabled()) or forward_ad._current_level >= 0
        mask = rate(p)
        if recorded and n <= SMALL:
            # The product counts the change and may refuse it itself.
            if inplace and (x._base is not None or x.is_leaf):
                claim(x)
            y = _empty_like(x)
            ones, to, code = _ONES_AT[dtype], y.data_ptr(), _REAL[dtype]
            # Used at once: a finalizer or signal handler might draw this thread's next key.
            key = new_key_address()
            status = _apply_few(FILL, key, mask.threshold, mask.scale, code, n, ones, to)
            if status:
                check_status(status, Philox4x32.name)
            return x.mul_(y) if inplace else x * y
        if inplace:
            claim(x)
        key0, key1 = new_key(None)
        y = x if inplace else _empty_like(x)
        status = _apply_by(
            _team.team,
            FILL,
            key0,
            key1,
            mask.threshold,
            mask.scale,
            _REAL[dtype],
            (n,),
            at,
            ONE,
            y.data_ptr(),
            ONE,
            _num_threads() if n > SMALL else 1,
        )
        if status:
            check_status(status, Philox4x32.name)
        return record(x, ((key0, key1, mask, mask.scale), y)) if recorded else y

    return dropout


def undispatched(kernel: Kernel, operator: Kernel) -> Kernel:
    """Return a kernel where torch's dispatcher would only call it, and the operator elsewhere.

    The dispatcher's way into Python and out again costs more than a small dropout.
    """

    def dropout(input: Tensor, p: float, train: bool) -> Tensor:
        if (
            _is_compiling()
            or type(input) not in PLAIN
            or type(p) is not float
            or train is not True
            or not input.is_cpu
            or _is_transforming()
            or _is_tracing()
            or _is_profiling()
        ):
            return operator(input, p, train)
        return kernel(input, p, train)

    return dropout
