"""The examples of generators of one's own: built, run, and compared across backends."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from paths import EXAMPLES
from support import any_bits, contents, reference, words_by_backend

import fastdrop
from fastdrop import rng as interface

IN_CI = os.environ.get("CI") == "true"


def run(*command: str | Path, cwd: Path) -> str:
    """Run a Python script and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fastdrop.__file__).parent.parent)}
    result = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def load(path: Path) -> ModuleType:
    """Import a script, with its own folder on the path, and leave the path as it was."""
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture(scope="module", autouse=True)
def _register_of_its_own() -> Iterator[None]:
    before = dict(interface._registry)
    yield
    interface._registry.clear()
    interface._registry.update(before)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that copies an example to a new folder and compiles it there."""

    def copy_and_compile(name: str) -> Path:
        if not IN_CI and not any(map(shutil.which, ("cc", "gcc", "clang", "cl"))):
            pytest.skip("no C compiler here")
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(EXAMPLES / name, folder, dirs_exist_ok=True)
        run("setup.py", "-q", "build_ext", "--inplace", cwd=folder)
        return folder

    return copy_and_compile


@pytest.fixture(scope="module")
def cfunc() -> ModuleType:
    if not IN_CI:
        pytest.importorskip("numba")
    return load(EXAMPLES / "rng_cfunc.py")


@pytest.fixture(scope="module")
def threefry(build: Any) -> ModuleType:
    return load(build("rng_capsule") / "demo.py")


@pytest.fixture(scope="module")
def xoshiro(build: Any) -> ModuleType:
    return load(build("rng_bit_generator") / "demo.py")


def check(cls: Any) -> None:
    """Compare the current backend with the reference on this generator."""
    for shape, p in (((99,), 0.5), ((9000,), 0.3), ((300, 700), 0.1), ((1 << 19,), 0.25)):
        x = any_bits(shape, np.float32)
        for view in (x, x.T, x[::-1]):
            y, mask = fastdrop.dropout(view, p, rng=cls(1), return_mask=True)
            assert contents(y) == contents(reference(mask, view))
            assert 0 < np.asarray(mask).sum() < mask.size
            bits = mask[3:].to_packed()
            with fastdrop.use_backend("reference"):
                np.testing.assert_array_equal(bits, mask[3:].to_packed())


def check_printed(printed: str) -> None:
    """Check that each backend has printed the same array."""
    arrays = printed.split(":\n")[1:]
    assert len(arrays) == len(fastdrop.available_backends())
    assert len({"".join(array.split("]]")[0].split()) for array in arrays}) == 1
    assert "1.3333" in arrays[0]


# A Numba cfunc.


def splitmix64(seed: int, gamma: int, n: int) -> list[int]:
    """Return the first n numbers of SplitMix64, as its paper defines it: step by step."""
    low = (1 << 64) - 1
    numbers = []
    for _ in range(n):
        seed = seed + gamma & low
        z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & low
        z = (z ^ z >> 27) * 0x94D049BB133111EB & low
        numbers.append(z ^ z >> 31)
    return numbers


def test_cfunc_runs() -> None:
    if not IN_CI:
        pytest.importorskip("numba")
    check_printed(run(EXAMPLES / "rng_cfunc.py", cwd=EXAMPLES))


def test_cfunc_drives_masks(backend: str, cfunc: ModuleType) -> None:
    check(cfunc.SplitMix64)
    assert type(interface.as_rng("splitmix64")) is cfunc.SplitMix64


def test_cfunc_is_splitmix64(backend: str, cfunc: ModuleType) -> None:
    rng = cfunc.SplitMix64(3)
    stream, position = rng.reserve(200)
    expected = splitmix64(int(rng.key[0]), int(rng.key[1]) | 1, 200)
    assert words_by_backend(stream, position, 200).tolist() == expected
    assert stream.words(position + 50, 100).tolist() == expected[50:150]


# A C capsule.


@pytest.mark.slow
def test_capsule_runs(threefry: ModuleType) -> None:
    folder = Path(threefry.__file__).parent
    check_printed(run("demo.py", cwd=folder))


def test_capsule_drives_masks(backend: str, threefry: ModuleType) -> None:
    check(threefry.Threefry)


@pytest.mark.parametrize(
    ("key", "expected"),
    # Random123's kat_vectors, threefry2x64 with 20 rounds, for a counter of zeros.
    [([0, 0], [0xC2B6E3A8C2C69865, 0x6F81ED42F350084D])],
)
def test_capsule_is_threefry(
    backend: str, threefry: ModuleType, key: list[int], expected: list[int]
) -> None:
    stream = interface.Stream(threefry.Threefry, np.array(key, np.uint64))
    assert words_by_backend(stream, 0, 2).tolist() == expected
    for start in range(5):
        np.testing.assert_array_equal(
            stream.words(start, 7), stream.words(0, 12)[start : start + 7]
        )


# A NumPy BitGenerator.


def xoshiro256(state: list[int], n: int) -> list[int]:
    """Return the first n numbers of xoshiro256**, as its authors' page defines it."""
    low = (1 << 64) - 1

    def rotate(x: int, bits: int) -> int:
        return (x << bits | x >> 64 - bits) & low

    a, b, c, d = state
    numbers = []
    for _ in range(n):
        numbers.append(rotate(b * 5 & low, 7) * 9 & low)
        c, d, t = c ^ a, d ^ b, b << 17 & low
        b, a = b ^ c, a ^ d
        c, d = c ^ t, rotate(d, 45)
    return numbers


@pytest.mark.slow
def test_bit_generator_runs(xoshiro: ModuleType) -> None:
    folder = Path(xoshiro.__file__).parent
    printed = run("demo.py", cwd=folder)
    check_printed(printed)
    assert "normal variates" in printed


@pytest.mark.slow
def test_bit_generator_drives_masks(backend: str, xoshiro: ModuleType) -> None:
    check(xoshiro.Xoshiro256)


@pytest.mark.slow
def test_bit_generator_is_xoshiro256(backend: str, xoshiro: ModuleType) -> None:
    generator = xoshiro.Xoshiro256(3)
    expected = xoshiro256(generator.state["words"], 300)
    stream, position = interface.NumpyRNG(generator).reserve(100)
    assert words_by_backend(stream, position, 100).tolist() == expected[:100]
    assert generator.random_raw(100).tolist() == expected[100:200]
    uniform = np.random.Generator(generator).random(100)
    assert uniform.tolist() == [(word >> 11) / 2**53 for word in expected[200:]]
    with pytest.raises(ValueError, match="state must be that of a Xoshiro256"):
        generator.state = {"bit_generator": "Xoshiro256", "words": [0, 0, 0, 0]}


# Masks in extensions of one's own.


@pytest.mark.skipif(fastdrop._C_API is None, reason="no compiled extension here")
def test_rows_in_cython_are_those_of_dropout(build: Any) -> None:
    folder = build("cython_rows")
    printed = run("demo.py", cwd=folder)
    assert printed.count("True") == 3
    rows = load(folder / "demo.py").rows
    x = np.ones((3, 50), np.float32)
    with pytest.raises(ValueError, match="shape of x"):
        rows.drop_rows(x, fastdrop.mask((3, 51), rng=1), 1)
    with pytest.raises(ValueError, match="shared"):
        rows.drop_rows(x, fastdrop.mask((3, 50), broadcast_dims=[1], rng=1), 1)
    assert (x == 1).all()
