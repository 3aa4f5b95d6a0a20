"""torch.dropout of the usual tensor in one straight line: calls cost what they touch.

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

from .._cy import core
from ..mask_format import rate
from ..rng import Philox4x32
from ..rng.base import check_status
from . import _team
from ._masks import CODES, FILL, ONE, PLAIN, compiled, new_key
from ._scaled import SMALL, apply_masked

_ONES: Final = {dtype: torch.ones(SMALL, dtype=dtype, device="cpu") for dtype in CODES}
_ONES_AT: Final = {dtype: ones.data_ptr() for dtype, ones in _ONES.items()}
_strided: Final = torch.strided
_modes: Final = torch._C._len_torch_dispatch_stack
_empty_like: Final = torch.empty_like
_is_grad_enabled: Final = torch.is_grad_enabled
_apply_by: Final[Any] = core and core.apply_by

Kernel = Callable[[Tensor, float, bool], Tensor]


def with_usual(kernel: Kernel) -> Kernel:
    """Return a kernel of ``aten::dropout`` that passes all but the usual tensor on."""

    def dropout(x: Tensor, p: float, train: bool) -> Tensor:
        n = x.numel() if type(x) in PLAIN else 0
        dtype = x.dtype
        if not (
            n
            and train
            and 0.0 < p <= 1.0
            and dtype in CODES
            and x.layout is _strided
            and x.is_contiguous()
            and compiled()
            and not (x.is_neg() or x.is_conj() or _modes())
        ):
            return kernel(x, p, train)
        recorded = (x.requires_grad and _is_grad_enabled()) or forward_ad._current_level >= 0
        key0, key1 = new_key(None)
        mask = rate(p)
        if n > SMALL and recorded:
            return apply_masked(x, (key0, key1, mask, mask.scale), False)
        y = _empty_like(x)
        source = _ONES_AT[dtype] if recorded else x.data_ptr()
        status = _apply_by(
            _team.team,
            FILL,
            key0,
            key1,
            mask.threshold,
            mask.scale,
            CODES[dtype],
            (n,),
            source,
            ONE,
            y.data_ptr(),
            ONE,
            torch.get_num_threads() if n > SMALL else 1,
        )
        if status:
            check_status(status, Philox4x32.name)
        return x * y if recorded else y

    return dropout
