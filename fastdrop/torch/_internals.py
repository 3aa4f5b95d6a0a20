"""The undocumented names of torch that fastdrop uses, each with a public replacement.

A release of torch may remove one. Its replacement is right, but slower: if a condition cannot
be checked, it is taken to be true. `enable` says which names are missing.
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
    """Return torch's object at a path. If there is none, record that and return `otherwise`."""
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
    """A class without instances, for a class of torch's that is not found."""


def _yes(*_: object) -> bool:
    return True


def _one() -> int:
    return 1


# Return the number of dispatch modes that watch or trace this thread's operators.
count_modes: Final[Callable[[], int]] = _find("_C._len_torch_dispatch_stack", _one)

# Return whether a functorch transform (vmap, grad, jvp) is active in this thread.
is_transforming: Final[Callable[[], bool]] = _find("_C._are_functorch_transforms_active", _yes)

is_jit_tracing: Final[Callable[[], bool]] = _find("_C._is_tracing", _yes)

is_profiling: Final[Callable[[], bool]] = _find("_C._autograd._profiler_enabled", _yes)

# Return whether a dispatch key is in this thread's TLS. PreDispatch is there during tracing
# before autograd.
_key_is_included: Final[Any] = _find("_C._dispatch_tls_is_dispatch_key_included", _yes)
_PRE_DISPATCH: Final = _find("_C.DispatchKey.PreDispatch", None)

# Return the number of the backward pass if autograd's engine runs this Python code, or -1.
backward_pass: Final[Callable[[], int]] = _find("_C._current_graph_task_id", lambda: -1)

# A tensor may have no memory, such as one that stands for zeros.
has_storage: Final[Callable[[Tensor], bool]] = _find(
    "_C._has_storage", lambda x: type(x) is Tensor and x.data_ptr() != 0
)


class _AlwaysDual:
    _current_level = 0


# Its `_current_level` is 0 or more while forward-mode derivatives may be needed.
forward_ad: Final[Any] = _find("autograd.forward_ad", _AlwaysDual)
_find("autograd.forward_ad._current_level", None)
if not hasattr(forward_ad, "_current_level"):
    forward_ad._current_level = 0


def is_traced_before_autograd() -> bool:
    """Return whether operators are traced before they reach autograd, as by torch.export."""
    return bool(_key_is_included(_PRE_DISPATCH))


# Tells TorchScript which operator a Python function represents.
REGISTER_BUILTIN: Final[Any] = _import("torch.jit._builtins", "_register_builtin", None)

# Return a mode if operators on plain tensors go into a graph too.
proxy_mode: Final[Callable[[], Any]] = _import(
    "torch.fx.experimental.proxy_tensor", "get_proxy_mode", count_modes
)


# The classes of tensors while a graph is made.
TRACED: Final[tuple[type, ...]] = (
    _import("torch._subclasses", "FakeTensor", _Nothing),
    _import("torch._subclasses.functional_tensor", "FunctionalTensor", _Nothing),
)

# Contexts that switch off modes and transforms which may be active when a constant is made.
SWITCHES: Final[tuple[Callable[[], Any], ...]] = (
    _import("torch.utils._python_dispatch", "_disable_current_modes", nullcontext),
    _find("_C.DisableTorchFunction", nullcontext),
    _find("_C._DisableFuncTorch", nullcontext),
)


def backward_class(function: type[torch.autograd.Function]) -> Any:
    """Return the class of a function's nodes if they can take their gradients in a list."""
    if not hasattr(torch.autograd.Function, "boxed_grads_call"):  # as in torch 2.6
        return None
    return getattr(function, "_backward_cls", None)


def apply_of(function: type[torch.autograd.Function]) -> Any:
    """Return a function's `apply` without its check for functorch transforms."""
    return getattr(super(torch.autograd.Function, function), "apply", function.apply)
