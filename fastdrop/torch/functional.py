"""torch.nn.functional's dropouts with fastdrop's masks and an optional generator.

Signatures, errors and warnings are torch's. Tensors that fastdrop does not
support (see `fastdrop.torch.enable`) go to torch's own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Generator, Tensor
from torch.nn import functional as torchs_own
from torch.overrides import (
    handle_torch_function,
    has_torch_function,
    has_torch_function_unary,
)

from ._attention import (
    Call,
    attend,
    attend_by_math,
    autocast,
    is_fused,
    is_known,
    spread,
    tensors_of,
    unspent,
    with_floats,
)
from ._fast_path import Kernel, with_usual
from ._internals import is_jit_tracing, is_transforming
from ._kinds import Kind, drop, eligible, suits
from ._masks import PLAIN
from ._samples import drop_samples

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
    "scaled_dot_product_attention",
]

_is_compiling: Final = torch.compiler.is_dynamo_compiling
_ELEMENTS: Final = Kind()
_CHANNELS: Final = Kind(channelwise=True)

# Saved at import, because a user may replace them by fastdrop's.
_TORCHS: Final[dict[str, Callable[..., Tensor]]] = {
    name: getattr(torchs_own, name) for name in __all__
}


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    sample_ids: object = None,
) -> Tensor:
    """Zero elements with probability `p` and multiply the others by 1/(1-p).

    Parameters
    ----------
    input : Tensor
        Any shape; float16, bfloat16, float32, float64, complex64 or complex128.
    p : float, optional
        Drop probability, 0 <= p <= 1.
    training : bool, optional
        False returns `input` itself.
    inplace : bool, optional
        Write into `input`.
    generator : torch.Generator, optional
        The generator of the mask's key; torch's default CPU generator if None.
    sample_ids : sequence of int, or (int, sequence of int), optional
        An id for each row of `input`, as in `fastdrop.dropout`. The generator does not move on
        then, and its state decides the masks: give it one of its own.

    Raises
    ------
    ValueError
        If `p` is outside [0, 1], or there is not one id for each row.
    RuntimeError
        If the dtype has no fractions. This error is torch's. With `sample_ids` also for tensors
        that fastdrop leaves to torch.

    References
    ----------
    G. E. Hinton, N. Srivastava, A. Krizhevsky, I. Sutskever, R. R.
    Salakhutdinov, "Improving neural networks by preventing co-adaptation of
    feature detectors", arXiv:1207.0580, 2012.

    Examples
    --------
    >>> import torch, fastdrop.torch.functional as F
    >>> y = F.dropout(torch.ones(1000), p=0.5, generator=torch.Generator().manual_seed(1))
    >>> y.unique()
    tensor([0., 2.])
    """
    if sample_ids is not None:
        _check_generator(generator)
        by_id: Tensor = drop_samples(input, p, training, inplace, generator, sample_ids)
        return by_id
    if generator is None and not (_is_compiling() or has_torch_function_unary(input)):
        return _USUAL[bool(inplace)](input, p, training)
    return _run("dropout", _ELEMENTS, input, p, training, inplace, generator)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Zero whole channels: `input` is (N, C, L) or (C, L); see `dropout`."""
    return _run("dropout1d", _CHANNELS, input, p, training, inplace, generator, batched=3)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Zero whole channels: `input` is (N, C, H, W); see `dropout`.

    Like torch, it reads three dimensions as (N, C, L), and warns.
    """
    return _run("dropout2d", _CHANNELS, input, p, training, inplace, generator)


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Zero whole channels: `input` is (N, C, D, H, W) or (C, D, H, W); see `dropout`."""
    return _run("dropout3d", _CHANNELS, input, p, training, inplace, generator, batched=5)


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Set elements to SELU's saturation value, keeping mean 0 and variance 1; see `dropout`.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing
    neural networks", NeurIPS 2017.
    """
    return _run("alpha_dropout", Kind(alpha=True), input, p, training, inplace, generator)


def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Apply `alpha_dropout` to whole channels: `input` is (N, C, ...)."""
    return _run(
        "feature_alpha_dropout",
        Kind(channelwise=True, alpha=True),
        input,
        p,
        training,
        inplace,
        generator,
    )


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Attention with dropout of its probabilities, which are never held as a matrix.

    Without dropout this is torch's own function.

    Parameters
    ----------
    query : Tensor
        Shape (..., L, D); float16, bfloat16, float32 or float64.
    key, value : Tensor
        Shapes (..., S, D) and (..., S, E), and `query`'s dtype.
    attn_mask : Tensor, optional
        Broadcasts to (..., L, S): bool, True where a key takes part, or numbers of `query`'s
        dtype, which are added to the scores.
    dropout_p : float, optional
        Drop probability, 0 <= dropout_p <= 1. As in torch, there is no training mode to switch
        it off.
    is_causal : bool, optional
        Row i attends to keys 0 to i only. Not together with `attn_mask`.
    scale : float, optional
        Multiplies the scores; 1/sqrt(D) if None.
    enable_gqa : bool, optional
        `key` and `value` have fewer heads, each for as many of `query`'s side by side.
    generator : torch.Generator, optional
        The generator of the mask's key; torch's default CPU generator if None.

    Returns
    -------
    Tensor
        Shape (..., L, E).

    Raises
    ------
    RuntimeError, TypeError, ValueError
        Torch's errors. No random number is spent then. RuntimeError too for a `generator`
        together with tensors that fastdrop leaves to torch.

    Notes
    -----
    Probability (..., i, j) has the mask's element of that index, as in a dropout of all
    probabilities with the same generator. What is kept for the backward pass is the operands,
    the output, two numbers for each row, and the mask's key: none of them may be changed in place
    before. A mask that needs a gradient, and second derivatives, take separate operations, with
    the same mask of dropout.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", arXiv:1706.03762, 2017. T. Dao,
    "FlashAttention-2", arXiv:2307.08691, 2023.

    Examples
    --------
    >>> import torch, fastdrop.torch.functional as F
    >>> q = k = v = torch.randn(2, 8, 512, 64)
    >>> F.scaled_dot_product_attention(q, k, v, dropout_p=0.1, is_causal=True).shape
    torch.Size([2, 8, 512, 64])
    """
    _check_generator(generator)
    given = Call(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if has_torch_function(tensors_of(given)) and not any(map(_is_subclass, tensors_of(given))):
        named = dict(list(given._asdict().items())[3:])
        named |= {} if generator is None else {"generator": generator}
        handed: Tensor = handle_torch_function(
            scaled_dot_product_attention, tensors_of(given), query, key, value, **named
        )
        return handed
    call = with_floats(given)
    if call is None or call.dropout_p <= 0.0 or (not _is_compiling() and is_jit_tracing()):
        return _torchs_attention(given)
    call = spread(autocast(call))
    if is_known(call):
        if is_fused(call):
            return attend(call, generator)
        if _is_compiling() or not is_transforming():
            return attend_by_math(call, generator)
    if generator is not None and call.dropout_p < 1.0 and all(t.numel() for t in tensors_of(call)):
        raise _left_to_torch(query)
    if _is_compiling():
        return _torchs_attention(given)
    with unspent():
        return _torchs_attention(given)


def _torchs_attention(call: Call) -> Tensor:
    own = _TORCHS["scaled_dot_product_attention"]
    query, key, value, mask, p, causal, scale, gqa = call
    return own(query, key, value, mask, p, causal, scale=scale, enable_gqa=gqa)


def _check_generator(generator: object) -> None:
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, but got {type(generator).__name__}"
        )


def _left_to_torch(x: Tensor) -> RuntimeError:
    return RuntimeError(
        "generator must be None for a tensor that fastdrop leaves to torch, "
        f"but got one with {x.dtype} on {x.device}"
    )


def _run(
    name: str,
    kind: Kind,
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    batched: int = 0,
) -> Tensor:
    """Run a dropout. An input with one dimension less than `batched` is a batch of one."""
    _check_generator(generator)
    own = _TORCHS[name]
    if has_torch_function_unary(input) and not _is_subclass(input):
        # For example, a Proxy of torch.fx puts this call into its graph. Function modes see it.
        settings: dict[str, object] = {"p": p, "training": training, "inplace": inplace}
        settings |= {} if generator is None else {"generator": generator}
        handed: Tensor = handle_torch_function(globals()[name], (input,), input, **settings)
        return handed
    if not _taken(input, kind):
        if generator is not None:
            raise _left_to_torch(input)
        return own(input, p, training, inplace)
    if kind.channelwise or type(p) is not float or not 0.0 <= p <= 1.0:
        own(input, p, training=False)  # raises or warns as torch does, and does nothing else
        p = float(p)
    if not training or p == 0.0:
        return input
    if input.dim() + 1 != batched:
        return drop(input, p, training, kind, inplace, generator)
    y = drop(input.unsqueeze(0), p, training, kind, inplace, generator)
    return input if inplace else y.squeeze(0)


def _is_subclass(x: object) -> bool:
    """Return whether x is a tensor for which torch's own functions call its class."""
    return isinstance(x, Tensor) and type(x) not in PLAIN


def _dropout(inplace: bool) -> Kernel:
    def run(input: Tensor, p: float, training: bool) -> Tensor:
        return _run("dropout", _ELEMENTS, input, p, training, inplace, None)

    return with_usual(run, _ELEMENTS, inplace, operator=run)


_USUAL: Final = _dropout(False), _dropout(True)


def _taken(x: Tensor, kind: Kind) -> bool:
    if x.device.type != "cpu":
        return False
    if torch.compiler.is_compiling():
        return suits(x, 0.0, kind)
    return eligible(x, 0.0, kind) and not (is_transforming() or is_jit_tracing())
