"""Adds fastdrop's version, operators and state to the key of torch.compile's caches on disk.

torch makes the key from a graph before it looks into dropout's operators, so the key does not
show whether fastdrop computes them. Nor does it show what fastdrop's own operators return: they
are names in a graph. Without this module, a process might use a graph that another process has
compiled, without fastdrop or with another fastdrop.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch.compiler.config as config

from .._version import __version__
from ..mask_format import FORMAT
from ._internals import UNKNOWN

_FOLDER: Final = Path(__file__).parent


@cache
def digest(folder: Path) -> str:
    """Return a hash of the modules in a folder: what defines the operators and their results."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def tag(is_enabled: Callable[[], bool]) -> Callable[[], None]:
    """Add fastdrop's version and operators, and if it is enabled, to the caches' key from now on.

    A tag that users have set or will set stays in the key.

    Returns
    -------
    callable
        Call it after each change of the result of `is_enabled`.
    """

    def ours() -> str:
        version = f"fastdrop {__version__}, mask format {FORMAT}, operators {digest(_FOLDER)}"
        return f"{version}, enabled" if is_enabled() else version

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
