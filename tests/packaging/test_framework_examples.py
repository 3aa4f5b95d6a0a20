"""The examples for other frameworks run, and their checks print True."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import EXAMPLES, ROOT

import fastdrop


def checks(script: str) -> list[bool]:
    """Run an example in a new process and return what its checks print."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fastdrop.__file__).parent.parent)}
    result = subprocess.run(
        [sys.executable, EXAMPLES / script], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return [found == "True" for found in re.findall(r": (True|False)$", result.stdout, re.M)]


def test_autograd_takes_gradients_under_the_forwards_mask() -> None:
    pytest.importorskip("autograd")
    assert checks("autograd_primitive.py") == [True] * 3


def test_pytensor_takes_gradients_under_the_forwards_mask() -> None:
    pytest.importorskip("pytensor")  # CI does not install it
    assert checks("pytensor_op.py") == [True] * 4


def test_keras_layer_keeps_kerass_seeds() -> None:
    # An import here would choose Keras's backend, and fail without TensorFlow.
    if not all(map(importlib.util.find_spec, ("torch", "keras"))):
        pytest.skip("Keras or torch is not installed; CI has no Keras")
    assert checks("keras_torch.py") == [True] * 4


def test_jax_calls_back_under_jit_grad_and_vmap() -> None:
    jax = pytest.importorskip("jax")  # CI does not install it
    (code,) = re.findall(
        r"```python\n(import jax\n.*?)```", (ROOT / "docs" / "frameworks.md").read_text(), re.S
    )
    names: dict = {}
    exec(code, names)
    x = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    key = np.array([7, 2], np.uint32)
    y, mask = fastdrop.dropout(x, 0.1, rng=np.random.SeedSequence((7, 2)), return_mask=True)

    def twice(x: np.ndarray) -> np.ndarray:
        return (names["dropout"](x, 0.1, key) ** 2).sum()

    np.testing.assert_array_equal(jax.jit(names["dropout"], static_argnums=1)(x, 0.1, key), y)
    expected = mask.apply(2 * y)
    np.testing.assert_allclose(jax.jit(jax.grad(twice))(x), expected, rtol=1e-6)
    slopes = jax.grad(lambda x: jax.grad(twice)(x).sum())(x)
    np.testing.assert_allclose(slopes, mask.apply(mask.apply(np.full_like(x, 2))), rtol=1e-6)
    rows = jax.vmap(lambda row: names["dropout"](row, 0.1, key))(x)
    row = fastdrop.dropout(x[1], 0.1, rng=np.random.SeedSequence((7, 2)))
    np.testing.assert_array_equal(rows[1], row)
