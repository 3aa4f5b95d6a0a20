"""torch's operator for dropout that returns its mask, which TorchScript's autodiff uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from ..mask_format import rate
from ._masks import PLAIN, evaluated, new_key, ones, takes

KERNELS: Final = ("native_dropout", "native_dropout_backward")


def kernels(is_enabled: Callable[[], bool]) -> dict[str, Callable[..., Any]]:
    """Return the kernels, which compute the same as torch's if fastdrop is off or not applicable.

    Torch's own are not composites, so nothing can call them after they are replaced.
    """

    def forward(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
        if x.numel() == 0:
            return x, torch.empty_like(x)
        if train is False:
            return x.clone(), torch.ones_like(x, dtype=torch.bool)
        if is_enabled() and type(x) in PLAIN and takes(x) and 0.0 < p <= 1.0:
            scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
            mask = (*new_key(None), rate(p), scale)
            return evaluated(x, mask), ones(mask, x.numel(), torch.bool).view(x.shape)
        kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1.0 - p)
        return x.mul(kept).mul_(1.0 / (1.0 - p) if p < 1.0 else 0.0), kept

    def backward(grad: Tensor, kept: Tensor, scale: float) -> Tensor:
        if is_enabled() and type(grad) in PLAIN and takes(grad):
            return torch.where(kept, grad, 0.0).mul_(scale)
        return grad * (kept.type_as(grad) * scale)

    return {"native_dropout": forward, "native_dropout_backward": backward}
