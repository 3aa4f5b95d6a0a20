"""The names of torch's that fastdrop uses and torch does not document, each with a public way out.

A release of torch may take one away. What is then used instead is right, if slower:
a question that cannot be asked is answered as if something were there to heed.
`enable` says which names are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor

UNKNOWN: Final[list[str]] = []  # names that this torch does not have

_NOTHING: Final = object()


def _find(path: str, otherwise: Any) -> Any:
    """Return what torch has at a path; without it, remember that and return `otherwise`."""
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, _NOTHING)
        if found is _NOTHING:
            UNKNOWN.append(f"torch.{path}")
            return otherwise
    return found


def _import(module: str, name: str, otherwise: Any) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        UNKNOWN.append(f"{module}.{name}")
        return otherwise


class _Nothing:
    """The class of no tensor, where torch's own is not found."""


def _yes(*_: object) -> bool:
    return True


def _one() -> int:
    return 1


# How many dispatch modes watch or trace this thread's operators.
count_modes: Final[Callable[[], int]] = _find("_C._len_torch_dispatch_stack", _one)

# Whether a functorch transform (vmap, grad, jvp) is active in this thread.
is_transforming: Final[Callable[[], bool]] = _find("_C._are_functorch_transforms_active", _yes)

is_jit_tracing: Final[Callable[[], bool]] = _find("_C._is_tracing", _yes)

is_profiling: Final[Callable[[], bool]] = _find("_C._autograd._profiler_enabled", _yes)

# Whether a dispatch key is in this thread's TLS: where functions trace ahead of autograd, it is.
_key_is_included: Final[Any] = _find("_C._dispatch_tls_is_dispatch_key_included", _yes)
_PRE_DISPATCH: Final = _find("_C.DispatchKey.PreDispatch", None)

# Whether Python code runs for autograd's engine: the number of its pass, or -1.
backward_pass: Final[Callable[[], int]] = _find("_C._current_graph_task_id", lambda: -1)

# A tensor may stand for numbers without having memory.
has_storage: Final[Callable[[Tensor], bool]] = _find(
    "_C._has_storage", lambda x: type(x) is Tensor and x.data_ptr() != 0
)


class _AlwaysDual:
    _current_level = 0


# Its `_current_level` is 0 or more while forward-mode derivatives may be wanted.
forward_ad: Final[Any] = _find("autograd.forward_ad", _AlwaysDual)
_find("autograd.forward_ad._current_level", None)
if not hasattr(forward_ad, "_current_level"):
    forward_ad._current_level = 0


def is_traced_before_autograd() -> bool:
    """Whether operators are traced before they reach autograd, as torch.export does it."""
    return bool(_key_is_included(_PRE_DISPATCH))


# Tells TorchScript which operator a Python function stands for.
REGISTER_BUILTIN: Final[Any] = _import("torch.jit._builtins", "_register_builtin", None)

# Whether the operators of plain tensors, too, go into a graph.
proxy_mode: Final[Callable[[], Any]] = _import(
    "torch.fx.experimental.proxy_tensor", "get_proxy_mode", count_modes
)


# What tensors are while a graph is made of them.
TRACED: Final[tuple[type, ...]] = (
    _import("torch._subclasses", "FakeTensor", _Nothing),
    _import("torch._subclasses.functional_tensor", "FunctionalTensor", _Nothing),
)

# Contexts that switch off what may be active where a constant is made.
SWITCHES: Final[tuple[Callable[[], Any], ...]] = (
    _import("torch.utils._python_dispatch", "_disable_current_modes", nullcontext),
    _find("_C.DisableTorchFunction", nullcontext),
    _find("_C._DisableFuncTorch", nullcontext),
)


def backward_class(function: type[torch.autograd.Function]) -> Any:
    """Return the class of a function's nodes if they may take their gradients in a list."""
    if not hasattr(torch.autograd.Function, "boxed_grads_call"):  # as in torch 2.6
        return None
    return getattr(function, "_backward_cls", None)


def apply_of(function: type[torch.autograd.Function]) -> Any:
    """Return a function's `apply` without its look for functorch transforms."""
    return getattr(super(torch.autograd.Function, function), "apply", function.apply)
