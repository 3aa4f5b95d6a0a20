"""What Inductor makes of `fastdrop::masked`: a mask of bytes, and a product in its own loops.

As an operator of its own, a mask would cost a pass over memory. So Inductor multiplies
where it reads the input or uses the output anyway, by bytes that an operator makes.
"""

from __future__ import annotations

import sys
from typing import Any

import torch


def prepare() -> None:
    """Tell Inductor, if it has been imported, before it compiles a graph with the operator."""
    inductor = sys.modules.get("torch._inductor.lowering")
    operator = torch.ops.fastdrop.masked.default
    if inductor is not None and operator not in inductor.lowerings:
        _register(inductor, operator)


def _register(inductor: Any, operator: Any) -> None:
    lowered, aten = inductor.lowerings, torch.ops.aten
    by_operator = inductor.fallback_handler(operator, add_to_fallback_set=False)
    mask = inductor.fallback_handler(torch.ops.fastdrop.keep.default, add_to_fallback_set=False)

    def masked(
        x: Any, key: Any, p: float, scale: float, shift: float = 0.0, dropped: float = 0.0
    ) -> Any:
        if x.get_dtype().is_complex or x.get_device().type != "cpu":
            return by_operator(x, key, p, scale, shift, dropped)
        y = lowered[aten.mul.Tensor](x, scale)
        if shift:
            y = lowered[aten.add.Tensor](y, shift)
        zero = inductor.full_like(x, dropped)
        return lowered[aten.where.self](mask(key, x.get_size(), p), y, zero)

    inductor.register_lowering(operator, type_promotion_kind=None)(masked)
