"""x * scale where a new mask keeps, 0 elsewhere: the basis of every kind of dropout.

For the backward pass, autograd keeps only the mask's key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Final, NamedTuple

import torch
from torch import Generator, Tensor

from ..mask_format import rate
from . import _internals, _operators
from ._internals import (
    TRACED,
    backward_pass,
    count_modes,
    forward_ad,
    has_storage,
    is_traced_before_autograd,
    is_transforming,
    proxy_mode,
)
from ._masks import (
    Mask,
    evaluate,
    evaluated,
    key_tensor,
    key_words,
    may_overlap,
    new_key,
    new_key_tensor,
    ones,
    takes,
)
from ._operators import shape_of_channels
from ._ownership import is_free

# A Python node of the autograd graph takes more time than this many products. So tensors of
# up to this size are multiplied by the mask, and torch's own node keeps the mask.
# docs/torch.md has the time and memory of both.
SMALL: Final = 4096


def scaled(
    x: Tensor,
    p: float,
    scale: float,
    shift: float = 0.0,
    dropped: float = 0.0,
    *,
    channelwise: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Return x * scale + shift where a new mask keeps, and `dropped` elsewhere.

    `x` is a CPU tensor for which `takes` is true. With `channelwise`, all elements
    of ``x[i, j]`` share one element of the mask.
    """
    if is_traced(x):
        # One operator for Dynamo, which then does not look inside.
        traced = _operators.DROPOUT if generator is None else partial(_operators.dropout, generator)
        y: Tensor = traced(x, p, scale, shift, dropped, channelwise)
        return x.copy_(y) if inplace else y
    if generator is not None:
        refuse_recomputation()
    if inplace:
        refuse_if_fixed(x)
    dual = forward_ad._current_level >= 0
    recorded = dual or (x.requires_grad and torch.is_grad_enabled())
    channels = channelwise and x.dim() > 2
    is_few = channels or (recorded and x.numel() <= SMALL)
    # With a generator of the caller's, our own node keeps the key. torch's node would save the
    # mask, and checkpoint would then recompute with another mask.
    by_torch = is_few and not (recorded and (shift or generator is not None))
    by_torch |= inplace and dual  # our own node has no forward mode for this
    drawn = _draw(p, scale, generator)
    if by_torch:
        return _by_torch(x, drawn, shift, dropped, channels, inplace)
    if channels:
        # A change of x.data does not count as a change of x; recording it does.
        y = _by_torch(x.data, drawn, shift, dropped, channels, inplace)
        y = x if inplace else y
    else:
        y = drawn.evaluated(x, shift, dropped, inplace)
        if inplace and not recorded:
            torch.autograd.graph.increment_version(x)
    return record(x, (drawn.mask, y, channels)) if recorded else y


def is_traced(x: Tensor) -> bool:
    """Return whether operators go into a graph, so that memory must not be accessed."""
    return (
        torch.compiler.is_compiling()
        or is_traced_before_autograd()
        or (count_modes() > 0 and (isinstance(x, TRACED) or bool(proxy_mode())))
    )


def refuse_recomputation() -> None:
    """Raise an error if `torch.utils.checkpoint` runs a forward again for the backward pass."""
    if backward_pass() >= 0 and torch.is_grad_enabled():
        raise RuntimeError(
            "generator must be None inside torch.utils.checkpoint, which runs the forward pass "
            "again with the state of the default generator only: another mask would be drawn, and "
            "gradients would be wrong"
        )


class _Drawn(NamedTuple):
    """A new mask, and its key as a tensor if modes watch, because they see only operators."""

    mask: Mask
    key: Tensor | None

    def evaluated(self, x: Tensor, shift: float, dropped: float, inplace: bool) -> Tensor:
        _, _, rate, scale = self.mask
        if self.key is None:
            y = x if inplace else torch.empty_like(x)
            evaluate(x, self.mask, y, shift, dropped)
            return y
        with torch.no_grad():
            y = _operators.masked(x, self.key, rate.p, scale, shift, dropped)
            if inplace:
                x.data.copy_(y)  # not counted as a change yet, as in the other case
        return x if inplace else y

    def factors(self, x: Tensor, channels: bool) -> Tensor:
        """Return scale or 0 for each element of the mask."""
        all_kept = x.new_ones(shape_of_channels(x)) if channels else torch.ones_like(x)
        return self.evaluated(all_kept, 0.0, 0.0, inplace=self.key is None)

    def keep(self, x: Tensor, channels: bool) -> Tensor:
        shape = shape_of_channels(x) if channels else x.shape
        if self.key is None:
            return ones(self.mask, prod(shape), torch.bool).view(shape)
        return _operators.keep(self.key, shape, self.mask[2].p)


def _draw(p: float, scale: float, generator: Generator | None) -> _Drawn:
    if count_modes() == 0:
        return _Drawn((*new_key(generator), rate(p), scale), None)
    key = new_key_tensor(generator)
    return _Drawn((*key_words(key), rate(p), scale), key)


def _by_torch(
    x: Tensor, drawn: _Drawn, shift: float, dropped: float, channels: bool, inplace: bool
) -> Tensor:
    """Return the result of `scaled`, computed by torch's operators, which autograd knows."""
    if not shift:
        factor = drawn.factors(x, channels)
        return x.mul_(factor) if inplace else x * factor
    y = _operators.by_mask(x, drawn.keep(x, channels), drawn.mask[3], shift, dropped)
    return x.copy_(y) if inplace else y


class _Masked(torch.autograd.Function):
    """x * scale where the mask keeps: a linear function that equals its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, made: tuple[Mask, Tensor, bool]) -> Tensor:
        ctx.mask, y, ctx.channels = made
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.saved_tensors  # noqa: B018 - empty; raises torch's error in a second backward pass
        transposed = _transposed_between_graphs if torch.compiler.is_compiling() else _transposed
        return transposed(grad, ctx.mask, ctx.channels), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _transposed(tangent, ctx.mask, ctx.channels)


def _boxed() -> type[_Masked]:
    """Return `_Masked` with a node that gets its gradient in a list, so it may be its last owner.

    It is `_Masked`'s own node where gradients do not come in such a list, as in compiled
    autograd, and in a torch without such lists.
    """
    if _internals.backward_class(_Masked) is None:
        return _Masked

    class Backward(_Masked._backward_cls):  # type: ignore[misc, name-defined]
        mask: Mask
        channels: bool

        def apply_boxed(self, grads: list[Tensor]) -> tuple[Tensor, None]:
            self.saved_tensors  # noqa: B018 - as above
            if (
                not self.channels
                and _is_data(grads[0])
                and not may_overlap(grads[0])
                and is_free(grads)
            ):
                evaluate(grads[0], self.mask, grads[0])
                return grads[0], None
            return _transposed(grads[0], self.mask, self.channels), None

    class Boxed(_Masked):
        boxed_grads_call = True

    Boxed._backward_cls = Backward
    return Boxed


# Records for autograd that a mask made y from x. y is computed before, without autograd.
record: Final[Callable[[Tensor, tuple[Mask, Tensor, bool]], Tensor]] = _internals.apply_of(_boxed())


def _transposed(x: Tensor, mask: Mask, channels: bool) -> Tensor:
    """Return x, a gradient or tangent, under a forward's mask."""
    if channels:
        return x * evaluated(torch.ones(shape_of_channels(x), dtype=x.dtype, device="cpu"), mask)
    if _is_data(x):
        return evaluated(x, mask)
    if is_transforming() or not (has_storage(x) and takes(x)):
        return x * evaluated(torch.ones(x.shape, dtype=x.dtype, device="cpu"), mask)
    if count_modes() > 0:
        key0, key1, rate, scale = mask
        return _operators.masked(x, key_tensor(key0, key1), rate.p, scale)
    return record(x, (mask, evaluated(x, mask), False))


# Compiled autograd runs this between graphs.
_transposed_between_graphs = torch.compiler.disable(_transposed)  # type: ignore[no-untyped-call]


def _is_data(x: Tensor) -> bool:
    """Return whether x is just numbers in memory: nothing records or transforms operations."""
    return (
        type(x) is Tensor
        and has_storage(x)
        and takes(x)
        and not (x.requires_grad and torch.is_grad_enabled())
        and forward_ad._current_level < 0
        and not is_transforming()
        and count_modes() == 0
    )


def refuse_if_fixed(x: Tensor) -> None:
    """Raise torch's error if x's values may not change, before a random number is drawn."""
    root = x if x._base is None else x._base
    is_leaf = torch.is_grad_enabled() and root.requires_grad and root.is_leaf
    if is_leaf or (x.is_inference() and not torch.is_inference_mode_enabled()):
        x.mul_(1)
