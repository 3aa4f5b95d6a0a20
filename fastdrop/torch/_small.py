"""Dropout of a few numbers, where the calls are the cost: the usual case in one straight line.

Everything here is also done, in more steps, by the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._cy import core
from ..mask_format import rate
from ..rng import Philox4x32
from ..rng.base import check_status
from ._masks import CODES, FILL, PLAIN, compiled, new_key

# A Python node of the autograd graph takes more time than this many products
# and more memory than this many numbers: so few are multiplied by the mask.
SMALL: Final = 256

_ONES: Final = {dtype: torch.ones(SMALL, dtype=dtype, device="cpu") for dtype in CODES}
_ONES_AT: Final = {dtype: ones.data_ptr() for dtype, ones in _ONES.items()}
_strided: Final = torch.strided
_modes: Final = torch._C._len_torch_dispatch_stack

Kernel = Callable[[Tensor, float, bool], Tensor]


def with_small(kernel: Kernel) -> Kernel:
    """Return a kernel of ``aten::dropout`` that passes all but the usual small tensor on."""

    def dropout(x: Tensor, p: float, train: bool) -> Tensor:
        n = x.numel() if type(x) in PLAIN else 0
        dtype = x.dtype
        if not (
            0 < n <= SMALL
            and train
            and 0.0 < p <= 1.0
            and dtype in CODES
            and x.layout is _strided
            and x.is_contiguous()
            and compiled()
            and not (x.is_neg() or x.is_conj() or _modes())
        ):
            return kernel(x, p, train)
        recorded = (x.requires_grad and torch.is_grad_enabled()) or forward_ad._current_level >= 0
        key0, key1 = new_key(None)
        y = torch.empty_like(x)
        source = _ONES_AT[dtype] if recorded else x.data_ptr()
        mask = rate(p)
        status = core.apply_raw(
            FILL,
            key0,
            key1,
            0,
            mask.threshold,
            mask.scale,
            CODES[dtype],
            n,
            source,
            y.data_ptr(),
            1,
        )
        if status:
            check_status(status, Philox4x32.name)
        return x * y if recorded else y

    return dropout
