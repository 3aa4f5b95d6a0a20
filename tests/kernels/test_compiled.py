"""What show_config calls compiled is compiled: it runs where plain NumPy's code cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
from support import contents

import fastdrop
from fastdrop._formulas.normal import Noise
from fastdrop._formulas.softmax import Scores
from fastdrop.backends import current, form, reference
from fastdrop.backends.base import Draw
from fastdrop.config import config
from fastdrop.mask_format import rate

SHAPE = (60, 70)
THINGS = ["mask bits", "dropout", "shared masks, forms", "normal variates", "softmax"]


def results() -> dict[str, bytes]:
    """Return what the current backend makes of everything that it can be asked for."""
    backend, (stream, position) = current(), fastdrop.ARS4x32(1).reserve(0)
    draw = Draw(stream, position, rate(0.3))
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    keep = np.random.default_rng(1).integers(0, 1 << 64, -(-x.size // 64), np.uint64)
    found: dict[str, bytes] = {}

    def note(name: str, run: Callable[..., None], *arguments: Any, out: np.ndarray) -> None:
        run(*arguments, out)
        found[name] = contents(out)

    bits, y = np.empty(-(-x.size // 8), np.uint8), np.empty_like(x)
    note("bits", backend.bits, draw, x.size, out=bits)
    note("dropout", backend.apply, draw, x, out=y)
    note("dropout of columns", backend.apply, draw, x.T, out=y.T)
    for kind, operands in form.OPERANDS.items():
        of = form.Form(kind, 0.25, -0.5, (x[::-1], x)[:operands])
        note(f"shared {kind}", backend.evaluate, draw, (0, 1), of, x, out=y)
        note(f"given {kind}", backend.evaluate_bits, keep, (70, 1), 2.0, of, x, out=y)
    for noise in (Noise(False, 0.5), Noise(True, 0.5)):
        note(f"{noise}", backend.add_noise, stream, position, noise, x, out=y)
        note(f"{noise} of columns", backend.add_noise, stream, position, noise, x.T, out=y.T)
    for scores in (Scores(), Scores(0.5, x[:1], causal=60)):
        y, lse, back = np.empty_like(x), np.empty(len(x), x.dtype), x.copy()
        backend.softmax(draw, scores, x, y, lse)
        backend.softmax_backward(draw, scores, x, back)
        backend.softmax_backward(draw, scores, again := x.copy(), grad := x.copy(), lse, lse)
        found[f"softmax, {scores.causal}"] = b"".join(map(contents, (y, lse, back, again, grad)))
    return found


def not_here(*_: object, **__: object) -> NoReturn:
    raise AssertionError("plain NumPy")


@pytest.fixture
def _no_plain_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the code away that computes on arrays: of bits, forms, variates, softmax."""
    for name in ("keep", "evaluate", "normals", "softmax", "softmax_backward"):
        monkeypatch.setattr(reference, name, not_here)


def test_all_is_compiled_or_else_plain_numpy(backend: str, request: pytest.FixtureRequest) -> None:
    with fastdrop.use_backend("reference"):
        expected = results()
    shown = config()
    request.getfixturevalue("_no_plain_numpy")
    if backend == "reference":
        assert all(shown[thing].startswith("plain NumPy") for thing in THINGS)
        with pytest.raises(AssertionError, match="plain NumPy"):
            results()
    else:
        assert all(shown[thing].startswith("compiled") for thing in THINGS)
        assert results() == expected


def test_every_form_is_named() -> None:
    assert config()["shared masks, forms"].endswith(f"({', '.join(form.KEPT)})")
