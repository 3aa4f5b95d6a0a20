"""show_config: what really runs here."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backends, rng
from ._version import __version__
from .mask_format import FORMAT
from .threads import get_num_threads


def config() -> dict[str, Any]:
    """Return version, backend, instruction set, threads and RNGs as a dictionary."""
    import platform  # two milliseconds that import fastdrop need not pay

    available = backends.available_backends()
    return {
        "fastdrop": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "mask format": FORMAT,
        "backend": backends.get_backend(),
        **backends.current().info(),
        "shared masks and forms": _how_runs("evaluate_bits"),
        "normal variates": _how_runs("add_noise"),
        "available backends": available,
        "compiled extension": "yes" if "cython" in available else "no: built without a C compiler",
        "threads": get_num_threads(),
        "default rng": rng.default_rng().name,
        "rngs": rng.available_rngs(),
    }


def _how_runs(method: str) -> str:
    inherited = getattr(backends.Backend, method)
    compiled = getattr(type(backends.current()), method) is not inherited
    return "compiled" if compiled else "plain NumPy"


def show_config() -> None:
    """Print version, backend, instruction set, threads and RNGs: what really runs.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.show_config()  # doctest: +ELLIPSIS
    fastdrop: ...
    """
    for key, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key + ':':<20} {text}")
