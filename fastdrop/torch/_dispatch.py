"""enable and disable: fastdrop in the place of torch's own CPU dropout, for the whole process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch._C import DispatchKey

from ._family import Kind, drop, eligible
from ._usual import Kernel, undispatched, with_usual

KINDS: Final = {
    "dropout": Kind(),
    "feature_dropout": Kind(channelwise=True),
    "alpha_dropout": Kind(alpha=True),
    "feature_alpha_dropout": Kind(channelwise=True, alpha=True),
}
OPERATORS: Final = tuple(f"aten::{name}{suffix}" for name in KINDS for suffix in ("", "_"))

# Inference tensors are dispatched by their device alone, all others through autograd.
_KEYS: Final = ("AutogradCPU", "CPU")

_LARGE: Final = 31 << 20  # bytes: less than 32 MB, from where on glibc learns no more

_lock = threading.Lock()
_library: torch.library.Library | None = None
_switched_on = False
_blocks = 0


def enable() -> tuple[str, ...]:
    """Let fastdrop do every CPU dropout of this process, forward and backward.

    That is `torch.nn.Dropout` and its relatives, `torch.nn.functional.dropout`
    and its relatives, and the dropouts inside attention, transformer and
    recurrent layers, in code that exists already and in code to come. Other
    devices, dtypes and layouts, tensor subclasses and functorch transforms stay
    with torch's own kernels. Graphs that torch.compile made before stay as
    they are. Calling it again changes nothing. With glibc, the first call also
    lets the process keep up to 62 MB of freed memory for new arrays.

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
    """Give dropout back to torch; inside an `enabled` block, when the block ends."""
    _switch(on=False)


@contextmanager
def enabled() -> Iterator[tuple[str, ...]]:
    """Enable inside a ``with`` block, for all threads, and restore what was before.

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
    return _library is not None


def _switch(on: bool | None = None, blocks: int = 0) -> None:
    global _library, _switched_on, _blocks
    with _lock:
        _switched_on = _switched_on if on is None else on
        _blocks += blocks
        wanted = _switched_on or _blocks > 0
        if wanted and _library is None:
            _library = _install()
        elif not wanted and _library is not None:
            _library._destroy()  # type: ignore[no-untyped-call]
            _library = None
            for name in _UNDISPATCHED:
                delattr(torch._VF, name)


def _install() -> torch.library.Library:
    _let_heap_grow()
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, kernel in _KERNELS.items():
        for key in _KEYS:
            library.impl(name, kernel, key)  # type: ignore[no-untyped-call]
    for name, function in _UNDISPATCHED.items():
        setattr(torch._VF, name, function)
    return library


@cache
def _let_heap_grow() -> None:
    """Free a large array, unread: glibc then keeps up to twice as much for new arrays.

    Where it would give their memory back and take other, each 4 KB cost a page fault, and
    all of a new array several times what its dropout does. Other allocators do not mind.
    """
    torch.empty(_LARGE, dtype=torch.uint8, device="cpu")


def _kernel(operator: torch._ops.OpOverload[Any, Any], kind: Kind, inplace: bool) -> Kernel:
    torchs_own: Callable[..., Tensor] = operator._op_dk

    def kernel(x: Tensor, p: float, train: bool) -> Tensor:
        if eligible(x, p, kind):
            return drop(x, p, train, kind, inplace)
        return torchs_own(DispatchKey.CompositeImplicitAutograd, x, p, train)

    return kernel


def _kernels() -> Iterator[tuple[str, Kernel]]:
    for name, kind in KINDS.items():
        for inplace in (False, True):
            operator = name + "_" * inplace
            kernel = _kernel(getattr(torch.ops.aten, operator).default, kind, inplace)
            yield operator, with_usual(kernel, inplace) if name == "dropout" else kernel


_KERNELS: Final = dict(_kernels())

# What torch.nn.functional calls, and TorchScript takes for the operators.
_UNDISPATCHED: Final = {
    name: undispatched(_KERNELS[name], getattr(torch, name)) for name in ("dropout", "dropout_")
}
for _name, _function in _UNDISPATCHED.items():
    torch.jit._builtins._register_builtin(_function, f"aten::{_name}")
