"""Adds fastdrop's version and state to the key of torch.compile's caches on disk.

torch makes the key from a graph before it looks into dropout's operators, so the key does not
show whether fastdrop computes them. Without this module, a process might use a graph that
another process, with or without fastdrop, has compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import torch.compiler.config as config

from .._version import __version__
from ..mask_format import FORMAT
from ._internals import UNKNOWN

_VERSION: Final = f"fastdrop {__version__}, mask format {FORMAT}"


def tag(is_enabled: Callable[[], bool]) -> Callable[[], None]:
    """Add fastdrop's version, and whether it is enabled, to the caches' key from now on.

    A tag that users have set or will set stays in the key.

    Returns
    -------
    callable
        Call it after each change of the result of `is_enabled`.
    """

    def ours() -> str:
        return f"{_VERSION}, enabled" if is_enabled() else _VERSION

    # The value of a setting is thread-local, but its entry belongs to the process.
    entry: Any = getattr(config, "_config", {}).get("cache_key_tag")
    if not hasattr(entry, "env_value_force"):
        UNKNOWN.append("torch.compiler.config._config")
        return lambda: setattr(config, "cache_key_tag", ours())
    unset, plain, asking = entry.env_value_force, type(entry), threading.local()

    class Tagged(plain):  # type: ignore[misc, valid-type]
        """An entry whose value is the user's tag and ours."""

        @property
        def env_value_force(self) -> Any:  # torch reads this before any other value
            if hasattr(asking, "users"):
                return unset
            asking.users = None
            try:
                users = config.cache_key_tag
            finally:
                del asking.users
            return f"{users}; {ours()}" if users else ours()

        @env_value_force.setter
        def env_value_force(self, value: Any) -> None:
            raise AttributeError("torch.compiler.config.cache_key_tag cannot be forced any more")

    entry.__class__ = Tagged
    return lambda: None
