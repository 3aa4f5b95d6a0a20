"""show_config: what runs on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backends, rng
from ._version import __version__
from .backends.form import KEPT
from .mask_format import FORMAT
from .threads import get_num_threads


def config() -> dict[str, Any]:
    """Return version, backend, instruction set, threads and RNGs as a dictionary."""
    import platform  # takes two milliseconds, so not at the import of fastdrop

    available = backends.available_backends()
    return {
        "fastdrop": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "mask format": FORMAT,
        "backend": backends.get_backend(),
        **backends.current().info(),
        "mask bits": _how_runs("bits"),
        "dropout": _how_runs("apply"),
        "shared masks, forms": f"{_how_runs('evaluate_bits')} ({', '.join(KEPT)})",
        "normal variates": _how_runs("add_noise"),
        "softmax": _how_runs("softmax"),
        "available backends": available,
        "compiled extension": "yes" if "cython" in available else "no: built without a C compiler",
        "threads": get_num_threads(),
        "default rng": rng.default_rng().name,
        "rngs": rng.available_rngs(),
    }


def _how_runs(method: str) -> str:
    """Return how the current backend does something: the reference alone is plain NumPy."""
    from .backends.reference import ReferenceBackend

    plain = getattr(type(backends.current()), method) is getattr(ReferenceBackend, method)
    return "plain NumPy" if plain else "compiled"


def show_config() -> None:
    """Print version, backend, instruction set, threads and RNGs: what runs here.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.show_config()  # doctest: +ELLIPSIS
    fastdrop: ...
    """
    for key, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key + ':':<20} {text}")
