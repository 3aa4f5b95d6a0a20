"""Failures in the middle of an operation: reported by every path, on every backend."""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np
import pytest
from capsules import address_of, capsule, generator

import fastdrop
from fastdrop import threads as threads_module
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK, rate

X = np.ones((40, 700), np.float32)


def fails_at(block: int) -> type[fastdrop.RNG]:
    """Return an RNG whose fill fails from a block of a mask of p = 1/2 on."""

    def fill(key: Any, position: int, n: int, out: Any) -> int:
        for i in range(n):
            out[i] = position + i
        return 9 if position + n > block * rate(0.5).block_words else 0

    return generator(capsule(fill=address_of(fill)))


PATHS = {
    "rows": lambda rng: fastdrop.dropout(X, rng=rng),
    "bands": lambda rng: fastdrop.dropout(X.T, rng=rng),
    "steps": lambda rng: fastdrop.dropout(X[::2, ::3], rng=rng, out=X[1::2, ::3].copy()),
    "in place": lambda rng: fastdrop.dropout(X.copy(), rng=rng, inplace=True),
    "shared": lambda rng: fastdrop.dropout(X, rng=rng, noise_shape=(40, 1)),
    "form": lambda rng: fastdrop.dropout_add(X, X, rng=rng),
    "form of columns": lambda rng: fastdrop.dropout_add(X.T, X.T, rng=rng),
    "noise": lambda rng: fastdrop.GaussianNoise(0.5, rng=rng)(X),
    "noise of columns": lambda rng: fastdrop.GaussianDropout(0.5, rng=rng)(X.T),
    "packed": lambda rng: mask_of(rng).to_packed(),
    "bool": lambda rng: mask_of(rng).to_bool(),
    "apply": lambda rng: mask_of(rng).apply(X),
}


def mask_of(rng: fastdrop.RNG) -> fastdrop.Mask:
    """Return a mask that nothing has evaluated yet."""
    drawn = Draw(*rng.reserve(rate(0.5).words(X.size)), rate(0.5))
    return fastdrop.Mask(drawn, X.shape)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("block", [0, 1])
def test_a_failing_generator_is_reported(backend: str, path: str, block: int) -> None:
    rng = fails_at(block)(1)
    if block and path in ("shared", "steps"):  # those have one block, or two
        PATHS[path](fails_at(2 * block)(1))
    else:
        with pytest.raises(RuntimeError, match="'custom' failed: its fill function returned 9"):
            PATHS[path](rng)


def test_a_failure_in_one_of_several_threads_is_reported(backend: str, threads: int) -> None:
    x = np.ones((300, 4 * BLOCK), np.float16)
    for view in (x, x.T):
        with pytest.raises(RuntimeError, match="fill function returned 9"):
            fastdrop.dropout(view, rng=fails_at(1100)(1))


def test_a_generator_goes_on_after_a_failure(backend: str) -> None:
    """The failed draw's words are spent: no mask can come twice."""
    cls = fails_at(1)
    rng = cls(1)
    with pytest.raises(RuntimeError, match="failed"):
        fastdrop.dropout(X, rng=rng)
    assert rng.position == rate(0.5).words(X.size)


class Plain(fastdrop.RNG):
    """A generator in Python only: nothing that compiled code could call."""

    name = "plain"

    @classmethod
    def key_words(cls) -> int:
        return 1

    @classmethod
    def words(cls, key: np.ndarray, position: int, n: int) -> np.ndarray:
        return key[0] + np.arange(position, position + n, dtype=np.uint64)


def test_a_generator_without_compiled_code_runs_on_the_reference_only(backend: str) -> None:
    for operation in PATHS.values():
        if backend == "reference":
            assert operation(Plain(1)).size
        else:
            with pytest.raises(TypeError, match="capsule"):
                operation(Plain(1))


# Masks and streams beside those that the other tests take.


def test_masks_by_sample_behave_as_sequences() -> None:
    x = np.ones((3, 5))
    mask = fastdrop.dropout(x, rng=1, sample_ids=[7, 2, 9], return_mask=True)[1]
    assert len(mask) == 3
    assert repr(mask) == "SampleMask(shape=(3, 5), p=0.5)"
    assert mask[-1].shape == (5,)
    np.testing.assert_array_equal(np.asarray(mask, np.int8), mask.to_bool())
    np.testing.assert_array_equal(np.array([row.to_bool() for row in mask]), mask.to_bool())
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(mask, copy=False)
    for row in (3, -4, "a", slice(0, 3, -2), None, 1.0):
        with pytest.raises(IndexError, match=r"row must be|indexed by|sliced|first axis"):
            mask[row]


def test_streams_and_masks_differ_from_anything_else() -> None:
    mask = fastdrop.dropout(np.ones(3), rng=1, return_mask=True)[1]
    assert mask != 1
    assert mask._draw.stream != 1
    assert fastdrop.ARS4x32(5).seed_seq.entropy == 5


def test_entropy_may_be_nested() -> None:
    """NumPy takes lists of lists, and flattens them; a state holds them flat."""
    rng = fastdrop.PCG64(np.random.SeedSequence([[1, 2], [3], 4]))
    again = fastdrop.PCG64(0)
    again.state = rng.state
    assert rng.state["seed"]["entropy"] == [1, 2, 3, 4]
    assert (again.random_raw(4) == rng.random_raw(4)).all()
    assert (again.spawn(1)[0].random_raw(4) == rng.spawn(1)[0].random_raw(4)).all()


def test_random_raw_takes_numpy_ints_anywhere() -> None:
    rng = fastdrop.ARS4x32(1)
    state = rng.state
    rng.state = {**state, "position": 2**63 + 10}
    expected = rng.random_raw(3)
    rng.state = {**state, "position": 2**63 + 10}
    assert (rng.random_raw(np.int64(3)) == expected).all()


def test_random_raw_beyond_memory_spends_nothing() -> None:
    for rng in (fastdrop.ARS4x32(1), fastdrop.rng.as_rng(np.random.SFC64(1))):
        before = repr(rng.state)
        with pytest.raises((MemoryError, ValueError)):
            rng.random_raw(2**59)
        assert repr(rng.state) == before


# Threads.


V1 = "4:memory:/a\n1:cpuset,cpu:/job/step\n0::/\n"
CPU = "/sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"/sys/fs/cgroup/cpu.max": ""}, None),
        # The tightest of those around it, whose names may be anything.
        ("0::/a b/c:d\n", {"/sys/fs/cgroup/a b/c:d/cpu.max": "150000 100000"}, 2),
        (
            "0::/a/b/c\n",
            {
                "/sys/fs/cgroup/a/b/c/cpu.max": "max 100000",
                "/sys/fs/cgroup/a/b/cpu.max": "400000 100000",
                "/sys/fs/cgroup/a/cpu.max": "200000 100000",
            },
            2,
        ),
        (V1, {f"{CPU}/cpu.cfs_quota_us": "50000\n", f"{CPU}/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {f"{CPU}/cpu.cfs_quota_us": "-1\n", f"{CPU}/cpu.cfs_period_us": "100000\n"}, None),
        (
            V1,
            {
                f"{CPU}/job/cpu.cfs_quota_us": "200000",
                f"{CPU}/job/cpu.cfs_period_us": "100000",
                f"{CPU}/job/step/cpu.cfs_quota_us": "-1",
                f"{CPU}/job/step/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (V1, {}, None),
        ("", {"/sys/fs/cgroup/cpu.max": "250000 100000"}, None),
    ],
)
def test_quotas_of_control_groups(
    monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], expected: int | None
) -> None:
    files = {**files, "/proc/self/cgroup": groups}
    monkeypatch.setattr(threads_module, "_read", lambda file: files.get(file, ""))
    assert threads_module._cgroup_quota() == expected
    assert threads_module._usable_processors() <= (expected or 256)


def test_processors_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads_module._usable_processors() == 1


@pytest.mark.parametrize("value", ["²", "1²", "-3", "+3", "1e3", "", ",4", "9" * 5000])
def test_odd_numbers_of_threads_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads_module._from_environment() in (None, threads_module.MOST_THREADS)


# The command line.


def test_bench_says_what_is_missing_and_what_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastdrop.cli import bench

    monkeypatch.setattr(bench, "_has_torch", lambda: False)
    monkeypatch.setattr(bench, "LONGEST", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bench.run(
        argparse.Namespace(
            backend="reference",
            threads=1,
            sizes=[10],
            quick=True,
            p=0.5,
            dtype="float32",
            rng="philox",
            plot=None,
        )
    )
    printed = capsys.readouterr().out
    assert "torch is not installed" in printed
    assert "-: a call would take more than 0 s" in printed
    assert fastdrop.get_num_threads() >= 1
