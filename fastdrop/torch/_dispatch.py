"""enable and disable: fastdrop instead of torch's own CPU dropout, for the whole process.

The first `enable` registers kernels with torch's dispatcher, and they stay for good: the
dispatcher calls kernels without a lock, so a removed kernel may be running in another
thread. They check a flag, and call torch's own dropout while it is off.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch._C import DispatchKey

from . import _compile_cache, _native_dropout
from ._attention import Call, attend, is_fused, is_known, spread, unspent
from ._fast_path import Kernel, with_usual
from ._internals import REGISTER_BUILTIN, UNKNOWN, has_storage
from ._kinds import Kind, drop, eligible

KINDS: Final = {
    "dropout": Kind(),
    "feature_dropout": Kind(channelwise=True),
    "alpha_dropout": Kind(alpha=True),
    "feature_alpha_dropout": Kind(channelwise=True, alpha=True),
}
_EACH: Final = {
    name + suffix: (name + suffix, kind, suffix == "_")
    for name, kind in KINDS.items()
    for suffix in ("", "_")
}
_ATTENTION: Final = "scaled_dot_product_attention"
OPERATORS: Final = tuple(f"aten::{name}" for name in (*_EACH, *_native_dropout.KERNELS, _ATTENTION))

# Inference tensors are dispatched only by their device, all others through autograd.
_KEYS: Final = ("AutogradCPU", "CPU")

_BY_KEY: Final = "_op_dk"  # calls an operator's kernel for a key; torch has no public way

_LARGE: Final = 31 << 20  # bytes: from 32 MB on, glibc does not adapt its threshold any more

_lock = threading.Lock()
_library: torch.library.Library | None = None  # from the first `enable` on, for good
_on = False
_switched_on = False
_blocks = 0


def enable() -> tuple[str, ...]:
    """Use fastdrop for every CPU dropout of this process, forward and backward.

    That includes the modules like `torch.nn.Dropout`, the functions like
    `torch.nn.functional.dropout`, and the dropouts inside attention, transformer
    and recurrent layers, in existing and in new models. Other devices, dtypes
    and layouts, tensor subclasses and functorch transforms keep torch's own
    kernels. Graphs that torch.compile has made before do not change
    (`torch._dynamo.reset()` removes them). Calling it again changes
    nothing. With glibc, the first call also lets the process keep up to 62 MB of
    freed memory for new arrays.

    Returns
    -------
    tuple of str
        The torch operators that fastdrop implements from now on.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.enable()[:2]
    ('aten::dropout', 'aten::dropout_')
    >>> torch.nn.Dropout(0.5)(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    >>> fastdrop.torch.disable()
    """
    _switch(on=True)
    return OPERATORS


def disable() -> None:
    """Restore torch's own dropout. Inside an `enabled` block, this happens when it ends."""
    _switch(on=False)


@contextmanager
def enabled() -> Iterator[tuple[str, ...]]:
    """Enable inside a ``with`` block, for all threads, and restore the previous state after it.

    Blocks may be nested, and may overlap in different threads.

    Examples
    --------
    >>> import fastdrop.torch
    >>> with fastdrop.torch.enabled():
    ...     fastdrop.torch.is_enabled()
    True
    >>> fastdrop.torch.is_enabled()
    False
    """
    _switch(blocks=1)
    try:
        yield OPERATORS
    finally:
        _switch(blocks=-1)


def is_enabled() -> bool:
    """Return whether fastdrop does torch's CPU dropout now."""
    return _on


_tell_cache: Final = _compile_cache.tag(is_enabled)


def _switch(on: bool | None = None, blocks: int = 0) -> None:
    global _on, _switched_on, _blocks
    with _lock:
        _switched_on = _switched_on if on is None else on
        _blocks += blocks
        wanted = _switched_on or _blocks > 0
        if wanted == _on:
            return
        if wanted and _library is None:
            _install()
        _on = wanted
        _tell_cache()
        for name, function in _UNDISPATCHED.items():
            if wanted:
                setattr(torch._VF, name, function)
            else:
                delattr(torch._VF, name)


def _install() -> None:
    global _library
    if not hasattr(torch.ops.aten.dropout.default, _BY_KEY):
        _refuse()
    if UNKNOWN:
        warnings.warn(
            f"fastdrop.torch does not know torch {torch.__version__}, which lacks "
            f"{', '.join(UNKNOWN)}; slower ways around are taken",
            stacklevel=4,
        )
    _let_heap_grow()
    _library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, kernel in _KERNELS.items():
        for key in _KEYS:
            _library.impl(name, kernel, key)  # type: ignore[no-untyped-call]
        _forget_dispatch(name)
    for name, kernel in _native_dropout.kernels(is_enabled).items():
        with warnings.catch_warnings():  # torch says that there was a kernel before
            warnings.simplefilter("ignore")
            _library.impl(name, kernel, "CPU")  # type: ignore[no-untyped-call]
        _forget_dispatch(name)


def _forget_dispatch(name: str) -> None:
    """Let the dispatcher's Python code look up an operator's kernels again.

    It caches what it found if the operator was traced before.
    """
    getattr(getattr(torch.ops.aten, name).default, "_dispatch_cache", {}).clear()


def _refuse(*_: object) -> Any:
    raise RuntimeError(
        f"torch's operators must have {_BY_KEY}, which those of torch {torch.__version__} lack; "
        "fastdrop.torch's modules and functions work without enable()"
    )


@cache
def _let_heap_grow() -> None:
    """Free a large unused array: glibc then keeps up to twice its size for new arrays.

    Otherwise glibc returns freed memory to the system. Then each 4 KB of a new array cost a
    page fault, and all together several times as much as its dropout. Other allocators are
    not affected.
    """
    torch.empty(_LARGE, dtype=torch.uint8, device="cpu")


def _handed_over(name: str) -> Callable[..., Tensor]:
    """Return torch's own function: the composite of an operator, called below our kernel."""
    operator: torch._ops.OpOverload[Any, Any] = getattr(torch.ops.aten, name).default
    torchs_own: Callable[..., Tensor] = getattr(operator, _BY_KEY, _refuse)

    def handed_over(*arguments: Any, **named: Any) -> Tensor:
        return torchs_own(DispatchKey.CompositeImplicitAutograd, *arguments, **named)

    return handed_over


def _ours(name: str, kind: Kind, inplace: bool, operator: Kernel | None = None) -> Kernel:
    """Return fastdrop's function, which leaves to torch what it does not support."""
    otherwise = _handed_over(name)

    def taken(x: Tensor, p: float, train: bool) -> Tensor:
        if eligible(x, p, kind):
            return drop(x, p, train, kind, inplace)
        return otherwise(x, p, train)

    return with_usual(taken, kind, inplace, operator)


def _kernel(name: str, kind: Kind, inplace: bool) -> Kernel:
    ours, otherwise = _ours(name, kind, inplace), _handed_over(name)

    def kernel(x: Tensor, p: float, train: bool) -> Tensor:
        # A functorch transform hands over tensors of its own when it takes attention apart.
        return ours(x, p, train) if _on and has_storage(x) else otherwise(x, p, train)

    return kernel


def _attention_kernel() -> Callable[..., Tensor]:
    otherwise = _handed_over(_ATTENTION)

    def attention(call: Call) -> Tensor:
        operands = spread(call)
        if is_known(operands):
            return attend(operands) if is_fused(operands) else torchs(call)
        with unspent():  # what fastdrop does not know, torch may refuse
            return torchs(call)

    def torchs(call: Call) -> Tensor:
        return otherwise(*call[:6], scale=call.scale, enable_gqa=call.enable_gqa)

    def kernel(*arguments: Any, **named: Any) -> Tensor:
        if _on:
            call = Call(*arguments, **named)
            if call.dropout_p > 0.0:
                return attention(call)
        return otherwise(*arguments, **named)

    return kernel


_KERNELS: Final[dict[str, Callable[..., Tensor]]] = {
    **{name: _kernel(*what) for name, what in _EACH.items()},
    _ATTENTION: _attention_kernel(),
}

# torch.nn.functional calls these functions, and TorchScript treats them as the operators.
_UNDISPATCHED: Final = {name: _ours(*what, getattr(torch, name)) for name, what in _EACH.items()}
if REGISTER_BUILTIN is not None:
    for _name, _function in _UNDISPATCHED.items():
        REGISTER_BUILTIN(_function, f"aten::{_name}")
