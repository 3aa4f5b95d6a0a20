"""Attention with dropout that never holds the matrix of its probabilities.

`_cy/drivers/attention.c` has the computation. Here are the operators for it, with what
autograd and graphs need, and the choice of the calls that it takes. The others go the way
that torch calls math: products, softmax and dropout as operations of their own. Both
give an element the same mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from .. import backends
from .._cy import core
from ..mask_format import rate
from ..rng import DEFAULT
from ..rng.base import check_status
from . import _blas, _openmp
from ._autograd import is_traced, refuse_recomputation
from ._internals import TRACED, apply_of, count_modes, forward_ad, has_storage, is_transforming
from ._masks import (
    CODES,
    FILL,
    PLAIN,
    is_dense,
    key_tensor,
    key_words,
    new_key,
    new_key_tensor,
)
from ._operators import RANDOM, define, library, masked, new_saved_key

DTYPES: Final = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

define(
    "attention(Tensor q, Tensor k, Tensor v, Tensor key, Tensor? bias, float p, float scale,"
    " bool causal) -> (Tensor, Tensor)"
)
define(
    "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor stats,"
    " Tensor key, Tensor? bias, float p, float scale, bool causal) -> (Tensor, Tensor, Tensor)"
)
define(
    "attention_dropout(Tensor q, Tensor k, Tensor v, Tensor? bias, float p, float scale,"
    " bool causal) -> Tensor",
    RANDOM,
)

_FARTHEST: Final = (1 << 31) - 1  # elements between two rows: BLAS counts them in 32 bits

Key = tuple[int, int]
How = tuple[float, float, bool]  # p, scale, causal

_ATTENTION: Final[Any] = torch.ops.fastdrop.attention.default
_BACKWARD: Final[Any] = torch.ops.fastdrop.attention_backward.default
_DROPOUT: Final[Any] = torch.ops.fastdrop.attention_dropout.default


class Call(NamedTuple):
    """What scaled_dot_product_attention is called with."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


# Functions, not properties and `_replace`: Dynamo of torch 2.6 does not know those of a NamedTuple.


def operands_of(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value."""
    return call.query, call.key, call.value


def tensors_of(call: Call) -> tuple[Tensor, ...]:
    """Return the operands, and the mask if there is one."""
    three = operands_of(call)
    return three if call.attn_mask is None else (*three, call.attn_mask)


def with_operands(call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Call:
    """Return a call with other tensors."""
    *_, p, causal, scale, gqa = call
    return Call(q, k, v, mask, p, causal, scale, gqa)


def factor_of(call: Call) -> float:
    """Return what scores are multiplied by."""
    return 1.0 / math.sqrt(call.query.shape[-1]) if call.scale is None else call.scale


def with_floats(call: Call) -> Call | None:
    """Return a call whose numbers are floats, or None if torch is to refuse their types."""
    p, scale = call.dropout_p, call.scale
    if type(call.is_causal) is not bool or type(call.enable_gqa) is not bool:
        return None
    if type(p) is float and (scale is None or type(scale) is float):
        return call
    if not isinstance(p, Real | Tensor) or not isinstance(scale, Real | None):
        return None
    return call._replace(dropout_p=float(p), scale=None if scale is None else float(scale))


def autocast(call: Call) -> Call:
    """Return a call with the operands that torch's function has under autocast."""
    if not torch.is_autocast_enabled("cpu"):
        return call
    dtype = torch.get_autocast_dtype("cpu")

    def cast(t: Tensor) -> Tensor:
        return t.to(dtype) if t.is_floating_point() and t.dtype is not torch.float64 else t

    q, k, v, *mask = map(cast, tensors_of(call))
    return with_operands(call, q, k, v, mask[0] if mask else None)


def spread(call: Call) -> Call:
    """Return a call whose operands have the same leading dimensions, where they broadcast."""
    operands = operands_of(call)
    shapes = [t.shape[:-2] for t in operands]
    if call.enable_gqa or len({len(shape) for shape in shapes}) > 1:
        return call
    if shapes[0] == shapes[1] == shapes[2]:
        return call
    try:
        leading = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return call
    q, k, v = (t.expand(*leading, *t.shape[-2:]) for t in operands)
    return with_operands(call, q, k, v, call.attn_mask)


def is_known(call: Call) -> bool:
    """Return whether it is dropout of tensors that fastdrop knows: the rest is torch's."""
    x = call.query
    return (
        0.0 < call.dropout_p < 1.0
        and all(
            (type(t) in PLAIN or (isinstance(t, TRACED) and is_traced(t)))
            and t.device.type == "cpu"
            and is_dense(t)
            and (t.dtype is x.dtype or (t is call.attn_mask and t.dtype is torch.bool))
            for t in tensors_of(call)
        )
        and x.dtype in DTYPES
        and _agree(call)
    )


def _agree(call: Call) -> bool:
    """Return whether the shapes are those of one attention, as torch wants them."""
    q, k, v = (tuple(t.shape) for t in operands_of(call))
    if not len(q) == len(k) == len(v) >= 2 or q[-1] != k[-1] or k[-2] != v[-2]:
        return False
    if call.enable_gqa and len(q) > 3:
        heads, groups = q[-3], k[-3]
        same = q[:-3] == k[:-3] == v[:-3] and groups == v[-3] and groups and heads % groups == 0
    else:
        same = q[:-2] == k[:-2] == v[:-2]
    mask = call.attn_mask
    if mask is not None and (call.is_causal or not _broadcasts(mask, (*q[:-1], k[-2]))):
        return False
    return bool(same) and all((*q, *k, *v))


def _broadcasts(mask: Tensor, shape: tuple[int, ...]) -> bool:
    ends = zip(reversed(mask.shape), reversed(shape), strict=False)
    return mask.dim() <= len(shape) and all(a in (1, b) for a, b in ends)


def is_fused(call: Call) -> bool:
    """Return whether a known call is for the kernels."""
    mask = call.attn_mask
    if torch.compiler.is_dynamo_compiling():
        return _blas.products is not None and not (mask is not None and mask.requires_grad)
    return not (
        _blas.products is None
        or backends.current().name != "cython"
        or is_transforming()
        or forward_ad._current_level >= 0
        or (mask is not None and mask.requires_grad and torch.is_grad_enabled())
        or any(t.is_neg() for t in tensors_of(call))
    )


def attend(call: Call, generator: torch.Generator | None = None) -> Tensor:
    """Return attention with a new mask, by the kernels."""
    q, k, v = (_as_four(t) for t in operands_of(call))
    bias = call.attn_mask
    if bias is not None:
        bias = _as_four(bias.expand(*call.query.shape[:-1], call.key.shape[-2]))
    how = call.dropout_p, factor_of(call), call.is_causal
    out: Tensor
    if torch.compiler.is_dynamo_compiling():
        out = _DROPOUT(q, k, v, bias, *how)  # Dynamo does not look inside
    elif count_modes() or any(map(is_traced, tensors_of(call))):
        out, _ = _ATTENTION(q, k, v, _new_key(call, generator), bias, *how)
    else:  # an operator would take 0.1 ms more
        if generator is not None:
            refuse_recomputation()
        out = _attention_of_data(q, k, v, bias, new_key(generator), how)
    if call.query.dim() == 4:
        return out
    return out.reshape(*call.query.shape[:-1], call.value.shape[-1])


def attend_by_math(call: Call, generator: torch.Generator | None = None) -> Tensor:
    """Return attention with a new mask, by operations that autograd and transforms know."""
    return _by_math(call, _new_key(call, generator))


def _new_key(call: Call, generator: torch.Generator | None) -> Tensor:
    if any(is_traced(t) for t in tensors_of(call)):
        return new_saved_key(call.query, generator)
    if generator is not None:
        refuse_recomputation()
    return new_key_tensor(generator)


def _as_four(x: Tensor) -> Tensor:
    """Return x as batches of heads."""
    if x.dim() > 4:
        return x.reshape(-1, *x.shape[-3:])
    return x.reshape(*(1,) * (4 - x.dim()), *x.shape)


def _by_math(call: Call, key: Tensor) -> Tensor:
    q, k, v, bias = call.query, call.key, call.value, call.attn_mask
    if call.enable_gqa and q.dim() > 3:
        k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    # The root on both sides, as torch has it: products of half precision may overflow.
    root = math.sqrt(abs(factor_of(call)))
    scores = (q * math.copysign(root, factor_of(call))) @ (k * root).transpose(-2, -1)
    if call.is_causal:
        bias = torch.ones(scores.shape[-2:], dtype=torch.bool, device="cpu").tril()
    if bias is not None and bias.dtype is torch.bool:
        bias = torch.zeros_like(bias, dtype=q.dtype).masked_fill_(~bias, -math.inf)
    scores = scores if bias is None else scores + bias
    probabilities = torch.ops.aten._safe_softmax(scores, -1)
    # A product, which transforms of the backward pass know too.
    kept = masked(torch.ones_like(probabilities), key, call.dropout_p, 1 / (1 - call.dropout_p))
    out: Tensor = (probabilities * kept) @ v
    return out


@contextmanager
def unspent() -> Iterator[None]:
    """Give random numbers back if torch refuses a call: its math may draw a mask before."""
    state = torch.get_rng_state()
    try:
        yield
    except Exception:
        torch.set_rng_state(state)
        raise


# --- The operators ------------------------------------------------------------------------------


def _matrices(x: Tensor) -> tuple[int, int, int, int]:
    row = x.stride(2) if x.shape[2] > 1 else x.shape[3]
    return x.data_ptr(), x.stride(0), x.stride(1), row


def _in_rows(x: Tensor) -> Tensor:
    """Return x in a layout that BLAS takes: columns side by side, and rows that do not overlap."""
    width = x.shape[3]
    beside = width == 1 or x.stride(3) == 1
    apart = x.shape[2] == 1 or width <= x.stride(2) <= _FARTHEST
    return x if beside and apart else x.contiguous()


def _run(
    operands: tuple[Tensor, ...],
    key: Key,
    bias: Tensor | None,
    how: How,
    backward: tuple[Tensor, ...] = (),
) -> None:
    q, k, v, out, stats = operands
    p, scale, causal = how
    mask = rate(p)
    added: tuple[int, ...] = ()
    if bias is not None:
        code = -1 if bias.dtype is torch.bool else CODES[bias.dtype]
        added = bias.data_ptr(), code, *(bias.itemsize * n for n in bias.stride())
    status = core.attend(
        _openmp.team,
        _blas.products,
        CODES[q.dtype],
        (*q.shape[:2], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]),
        tuple(map(_matrices, (q, k, v, out))),
        stats.data_ptr(),
        added,
        causal,
        scale,
        FILL,
        *key,
        mask.threshold,
        mask.scale,
        tuple(map(_matrices, backward)),
        torch.get_num_threads(),
    )
    if status:
        check_status(status, DEFAULT.name)


def _empty_out(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    batches, heads, rows = q.shape[:3]
    # Heads side by side: models join them next.
    width = v.shape[3]
    strides = rows * heads * width, width, heads * width, 1
    out = q.new_empty_strided((batches, heads, rows, width), strides)
    double = q.dtype is torch.float64
    number = torch.float64 if double else torch.float32
    return out, q.new_empty(2, batches, heads, rows, dtype=number)


def _empty_grad(x: Tensor) -> Tensor:
    """Return memory for x's gradient, with heads side by side if x's are so."""
    batches, heads, rows, width = x.shape
    if heads > 1 and x.stride(1) < x.stride(2):
        return x.new_empty(batches, rows, heads, width).transpose(1, 2)
    return x.new_empty(x.shape)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, key: Key, bias: Tensor | None, how: How
) -> tuple[Tensor, Tensor]:
    out, stats = _empty_out(q, v)
    _run((*map(_in_rows, (q, k, v)), out, stats), key, bias, how)
    return out, stats


def _backward(
    grad: Tensor, operands: tuple[Tensor, ...], key: Key, bias: Tensor | None, how: How
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v, out, stats = operands
    grads = _empty_grad(q), _empty_grad(k), _empty_grad(v)
    _run((*map(_in_rows, (q, k, v, out)), stats), key, bias, how, (_in_rows(grad), *grads))
    return grads


class _Attention(torch.autograd.Function):
    """The kernels between ordinary tensors."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, key: Key, how: How
    ) -> Tensor:
        out, stats = _forward(q, k, v, key, bias, how)
        ctx.save_for_backward(q, k, v, out, stats, bias)
        ctx.key, ctx.how = key, how
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, stats, bias = ctx.saved_tensors
        grads: tuple[Tensor | None, ...]
        if torch.compiler.is_compiling():  # compiled autograd
            grads = _BACKWARD(grad, q, k, v, out, stats, key_tensor(*ctx.key), bias, *ctx.how)
        elif torch.is_grad_enabled() or not has_storage(grad):
            grads = _twice_differentiable(q, k, v, key_tensor(*ctx.key), bias, ctx.how, grad)
        else:
            grads = _backward(grad, (q, k, v, out, stats), ctx.key, bias, ctx.how)
        return *grads, None, None, None


_attention_of_data: Final = apply_of(_Attention)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, key: Tensor, bias: Tensor | None, *how: Any
) -> tuple[Tensor, Tensor]:
    return _forward(q, k, v, key_words(key), bias, how)


def _attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    stats: Tensor,
    key: Tensor,
    bias: Tensor | None,
    *how: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(grad, (q, k, v, out, stats), key_words(key), bias, how)


def _fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty_out(q, v)


def _fake_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_grad(q), _empty_grad(k), _empty_grad(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, key, bias, *ctx.how = inputs
    ctx.save_for_backward(q, k, v, *output, key, bias)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, stats, key, bias = ctx.saved_tensors
    if torch.is_grad_enabled() and not torch.compiler.is_compiling() and not is_traced(grad):
        grads = _twice_differentiable(q, k, v, key, bias, ctx.how, grad)
    else:
        grads = _BACKWARD(grad, q, k, v, out, stats, key, bias, *ctx.how)
    return *grads, None, None, None, None, None


def _twice_differentiable(
    q: Tensor, k: Tensor, v: Tensor, key: Tensor, bias: Tensor | None, how: Any, grad: Tensor
) -> tuple[Tensor | None, ...]:
    p, scale, causal = how
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # One may be another, or be made of it: a gradient must not go through both.
        operands = [t.view_as(t) for t in (q, k, v)]
        q, k, v = operands
        out = _by_math(Call(q, k, v, bias, p, causal, scale, enable_gqa=True), key)
    wanted = [t for t in operands if t.requires_grad]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=create_graph))
    return tuple(next(found) if t.requires_grad else None for t in (q, k, v))


def _attention_dropout(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
    out: Tensor = _ATTENTION(q, k, v, _new_key(Call(q, k, v, bias), None), bias, *how)[0]
    return out


library.impl("attention_dropout", _attention_dropout, "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]
library.impl("attention", _attention, "CPU")  # type: ignore[no-untyped-call]
library.impl("attention_backward", _attention_backward, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("fastdrop::attention", _fake, lib=library)
torch.library.register_fake("fastdrop::attention_backward", _fake_backward, lib=library)
torch.library.register_autograd("fastdrop::attention", _gradients, setup_context=_save, lib=library)
