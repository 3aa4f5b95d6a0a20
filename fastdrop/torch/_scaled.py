"""x * scale where a new mask keeps, 0 elsewhere: what every kind of dropout is made of.

What autograd keeps for the backward pass is the mask's key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..mask_format import rate
from ._graph import first_of_channels, scaled_in_graph
from ._masks import Mask, evaluate, evaluated, factors, may_overlap, new_key, takes
from ._ownership import is_free

# A Python node of the autograd graph takes more time than this many products
# and more memory than this many numbers: so few are multiplied by the mask.
SMALL: Final = 256


def scaled(
    x: Tensor,
    p: float,
    scale: float,
    *,
    channelwise: bool = False,
    inplace: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return x * scale where a new mask keeps, and 0 elsewhere.

    `x` is a CPU tensor that `takes` accepts. With `channelwise`, all elements
    of ``x[i, j]`` share one element of the mask.
    """
    if in_graph():
        y = scaled_in_graph(x, p, scale, channelwise, generator)
        return x.copy_(y) if inplace else y
    dual = forward_ad._current_level >= 0
    recorded = dual or (x.requires_grad and torch.is_grad_enabled())
    if inplace:
        claim(x)
    mask = (*new_key(generator), rate(p), scale)
    if channelwise and x.dim() > 2:
        factor = factors(first_of_channels(x), mask)
    elif not recorded:
        out = x if inplace else torch.empty_like(x)
        evaluate(x, mask, out)
        return out
    elif x.numel() > SMALL and not (inplace and dual):
        return masked(x, mask, x if inplace else torch.empty_like(x))
    else:
        factor = factors(x, mask)
    return x.mul_(factor) if inplace else x * factor


def in_graph() -> bool:
    """Whether operators are being recorded or intercepted, and memory must not be touched."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


class _Masked(torch.autograd.Function):
    """x * scale where the mask keeps: a linear function that is its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, made: tuple[Mask, Tensor]) -> Tensor:
        ctx.mask, y = made
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        transposed = _transposed_between_graphs if torch.compiler.is_compiling() else _transposed
        return transposed(grad, ctx.mask), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _transposed(tangent, ctx.mask)


class _MaskedBackward(_Masked._backward_cls):  # type: ignore[misc, name-defined]
    """A node of the autograd graph that gets its gradient in a list, and so may be its last owner.

    Where nobody gives it such a list, as in compiled autograd or an older torch,
    it is `_Masked`'s own node.
    """

    mask: Mask

    def apply_boxed(self, grads: list[Tensor]) -> tuple[Tensor, None]:
        if _is_data(grads[0]) and not may_overlap(grads[0]) and is_free(grads):
            evaluate(grads[0], self.mask, grads[0])
            return grads[0], None
        return _transposed(grads[0], self.mask), None


class _MaskedBoxed(_Masked):
    boxed_grads_call = True


_MaskedBoxed._backward_cls = _MaskedBackward

# Records that a mask made y of x, which autograd does not see being done: y's values are there.
# Function.apply first looks for functorch transforms, which never get here.
record: Callable[[Tensor, tuple[Mask, Tensor]], Tensor] = super(
    torch.autograd.Function, _MaskedBoxed
).apply


def masked(x: Tensor, mask: Mask, out: Tensor) -> Tensor:
    """Return x under a mask in `out`, which may be x, recorded by autograd."""
    evaluate(x, mask, out)
    return record(x, (mask, out))


def _transposed(x: Tensor, mask: Mask) -> Tensor:
    """Return x, a gradient or tangent, under a forward's mask."""
    if _is_data(x):
        return evaluated(x, mask)
    if torch._C._are_functorch_transforms_active() or not (torch._C._has_storage(x) and takes(x)):
        return x * factors(torch.ones(x.shape, dtype=x.dtype), mask)
    return masked(x, mask, torch.empty_like(x))


# Compiled autograd runs it between graphs.
_transposed_between_graphs = torch.compiler.disable(_transposed)  # type: ignore[no-untyped-call]


def _is_data(x: Tensor) -> bool:
    """Whether x is numbers in memory and no more: nothing records or transforms what is done."""
    return (
        type(x) is Tensor
        and torch._C._has_storage(x)
        and takes(x)
        and not (x.requires_grad and torch.is_grad_enabled())
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
    )


def claim(x: Tensor) -> None:
    """Count a change of x's values, or raise torch's error if it may not change."""
    root = x if x._base is None else x._base
    is_leaf = torch.is_grad_enabled() and root.requires_grad and root.is_leaf
    if is_leaf or (x.is_inference() and not torch.is_inference_mode_enabled()):
        x.mul_(1)  # raises, before a random number is spent
    torch.autograd.graph.increment_version(x)
