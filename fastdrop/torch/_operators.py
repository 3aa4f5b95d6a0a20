"""Dropout as torch operators, for graphs: torch.compile, export, dispatch modes.

In a graph the key is a tensor that is drawn anew each time the graph runs. The backward
pass needs the forward's key. So a graph that is split in two must save the key, for any
memory budget: drawn again, it would be a different key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import traceback
from torch.utils.checkpoint import CheckpointPolicy

from ..mask_format import rate
from . import _inductor
from ._masks import evaluated, key_words, new_key_tensor, ones

_COMPLIANT: Final = (torch.Tag.pt2_compliant_tag,)
RANDOM: Final = (torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded)

library: Final = torch.library.Library("fastdrop", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str, tags: tuple[torch.Tag, ...] = _COMPLIANT) -> None:
    """Add an operator to fastdrop's."""
    library.define(schema, tags=tags)  # type: ignore[no-untyped-call]


define(
    "masked(Tensor x, Tensor key, float p, float scale, float shift=0., float dropped=0.) -> Tensor"
)
define("keep(Tensor key, SymInt[] size, float p) -> Tensor")
define(
    "dropout(Tensor x, float p, float scale, float shift, float dropped, bool channelwise)"
    " -> Tensor",
    RANDOM,
)

_MASKED: Final[Any] = torch.ops.fastdrop.masked.default
_KEEP: Final[Any] = torch.ops.fastdrop.keep.default
DROPOUT: Final[Any] = torch.ops.fastdrop.dropout.default


def masked(
    x: Tensor, key: Tensor, p: float, scale: float, shift: float = 0.0, dropped: float = 0.0
) -> Tensor:
    """Return x * scale + shift where the mask of a key keeps, and `dropped` elsewhere."""
    y: Tensor = _MASKED(x, key, p, scale, shift, dropped)
    return y


def keep(key: Tensor, size: Sequence[int], p: float) -> Tensor:
    """Return where the mask of a key keeps: bool, shape `size`."""
    # The operator returns numbers, in the type that Inductor's loops load fastest.
    kept: Tensor = _KEEP(key, size, p)
    return kept > 0.5


def _masked(
    x: Tensor, key: Tensor, p: float, scale: float, shift: float = 0.0, dropped: float = 0.0
) -> Tensor:
    return evaluated(x, (*key_words(key), rate(p), scale), shift, dropped)


def _keep(key: Tensor, size: Sequence[int], p: float) -> Tensor:
    mask = *key_words(key), rate(p), 1.0
    return ones(mask, prod(size), torch.bfloat16).view(size)


def _fake_masked(x: Tensor, key: Tensor, *_: float) -> Tensor:
    _inductor.prepare()
    return torch.empty_like(x)


def _fake_keep(key: Tensor, size: Sequence[int], p: float) -> Tensor:
    _inductor.prepare()
    return torch.empty(size, dtype=torch.bfloat16, device="cpu")


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, key, ctx.p, ctx.scale, *_ = inputs
    ctx.save_for_backward(key)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (key,) = ctx.saved_tensors
    return masked(grad, key, ctx.p, ctx.scale), None, None, None, None, None


def dropout(
    generator: torch.Generator | None,
    x: Tensor,
    p: float,
    scale: float,
    shift: float,
    dropped: float,
    channelwise: bool,
) -> Tensor:
    """Return x * scale + shift where a new mask keeps, and `dropped` elsewhere, with operators."""
    key = new_saved_key(x, generator)
    if not channelwise or x.dim() <= 2:
        return masked(x, key, p, scale, shift, dropped)
    if not shift:
        return x * masked(x.new_ones(shape_of_channels(x)), key, p, scale)
    return by_mask(x, keep(key, shape_of_channels(x), p), scale, shift, dropped)


def shape_of_channels(x: Tensor) -> tuple[int, ...]:
    """Return the shape of a mask that has one element for each of x's channels."""
    return (*x.shape[:2], *(1,) * (x.dim() - 2))


def by_mask(x: Tensor, kept: Tensor, scale: float, shift: float, dropped: float) -> Tensor:
    """Return x * scale + shift where `kept`, which broadcasts to x, and `dropped` elsewhere."""
    # For half precision the numbers are single too, and the result is rounded once.
    dtype = torch.promote_types(x.dtype, torch.float32)
    factor = torch.where(kept, torch.full_like(kept, scale, dtype=dtype), 0.0)
    offset = torch.where(kept, torch.full_like(kept, shift, dtype=dtype), dropped)
    return (x * factor + offset).to(x.dtype)


def new_saved_key(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw the key of x's mask by an operator whose result the backward pass reads, not repeats."""
    _refuse_no_memory(x)
    with _always_saved():
        return new_key_tensor(generator)


def _refuse_no_memory(x: Tensor) -> None:
    """Raise an error if torch would save nothing, and so draw another key in the backward pass."""
    functorch = sys.modules.get("torch._functorch.config")
    if x.requires_grad and getattr(functorch, "activation_memory_budget", 1.0) == 0.0:
        raise RuntimeError(
            "torch._functorch.config.activation_memory_budget must be above 0 for a graph with "
            "dropout, but got 0: torch would draw other random numbers in the backward pass"
        )


@contextmanager
def _always_saved() -> Iterator[None]:
    """Mark the operators traced inside, so that partitioners save their results."""
    meta = traceback.get_current_meta()
    before = meta.get("recompute")
    meta["recompute"] = CheckpointPolicy.MUST_SAVE
    try:
        yield
    finally:
        if before is None:
            del meta["recompute"]
        else:
            meta["recompute"] = before


library.impl("masked", _masked, "CPU")  # type: ignore[no-untyped-call]
library.impl("keep", _keep, "CPU")  # type: ignore[no-untyped-call]
library.impl("dropout", partial(dropout, None), "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fastdrop::masked", _fake_masked, lib=library)
torch.library.register_fake("fastdrop::keep", _fake_keep, lib=library)
torch.library.register_autograd("fastdrop::masked", _backward, setup_context=_save, lib=library)
