"""The examples of the family run, and show what they say they show."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from paths import EXAMPLES

from fastdrop import available_backends


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_mlp_learns_the_digits() -> None:
    pytest.importorskip("sklearn")
    assert importlib.import_module("mlp_backward").main(epochs=15) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("other", available_backends())
def test_resumed_run_has_the_same_weights(other: str) -> None:
    """In a new process, with a thread more, on this backend."""
    pytest.importorskip("sklearn")
    assert importlib.import_module("resume_exactly").main(other) is True


def test_rnn_keeps_one_mask_for_all_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module("variational_rnn").main().shape == (4, 30, 16)
    counts = capsys.readouterr().out.split("[")[1].rstrip("]\n").split()
    assert sum(int(count) for count in counts) > 0


def test_monte_carlo_is_less_sure_beyond_its_data(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    inside, beyond = importlib.import_module("mc_dropout").main(str(tmp_path / "picture.png"))
    assert inside < beyond
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_monte_carlo_passes_are_one_network_for_all_batches() -> None:
    found = importlib.import_module("mc_dropout_batches").main()
    change, correlation = found[True]
    assert change < 1e-12  # of a matrix product, whose last bits may depend on the number of rows
    assert correlation > 0.99
    change, correlation = found[False]
    assert change > 0.1
    assert abs(correlation) < 0.2


def test_schedules_set_the_share_that_is_dropped() -> None:
    schedules = importlib.import_module("schedules")
    for schedule in (schedules.curriculum, schedules.early):
        expected = [schedule(step) for step in range(100)]
        # 10,000 elements: 5 standard errors are 0.025.
        np.testing.assert_allclose(schedules.dropped(schedule), expected, atol=0.025)
    assert schedules.early(1000) == 0.0


def test_a_compiled_loop_drops_what_dropout_does() -> None:
    pytest.importorskip("numba")
    # 784,000 elements: 5 standard errors are 0.0017.
    assert abs(importlib.import_module("numba_prange").main() - 0.9) < 0.0017


def test_a_transformer_learns_text() -> None:
    pytest.importorskip("threadpoolctl")
    losses = importlib.import_module("attention_text").main(steps=25)
    assert sorted(losses) == [0.0, 0.1]
    for first, held_out in losses.values():
        assert held_out < 0.8 * first


def test_a_transformers_gradients_are_its_slopes() -> None:
    """By central differences, under the same masks."""
    pytest.importorskip("threadpoolctl")
    example = importlib.import_module("attention_text")
    text, _, alphabet = example.load_text()
    model, batch = example.Model(len(alphabet), 0.2, 0), text[:60].reshape(3, 20)
    model.weights = {name: w.astype(np.float64) for name, w in model.weights.items()}

    def loss() -> tuple[float, object]:
        model.rng.reseed(9)
        return model.loss(batch)

    grads, rng, step = model.gradients(loss()[1]), np.random.default_rng(1), 1e-5
    for name, w in model.weights.items():
        at = tuple(rng.integers(0, n) for n in w.shape)
        at = {"embed": (int(batch[0, 0]), 5), "place": (3, 5)}.get(name, at)
        before, losses = w[at], []
        for moved in (before + step, before - step):
            w[at] = moved
            losses.append(loss()[0])
        w[at] = before
        slope = (losses[0] - losses[1]) / (2 * step)
        assert grads[name][at] == pytest.approx(slope, rel=1e-4, abs=1e-8), name
