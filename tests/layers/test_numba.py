"""fastdrop.numba: masks in compiled loops, of any part in any thread, are those of dropout."""

from __future__ import annotations

import ctypes
import doctest
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from support import any_bits, contents

import fastdrop
from fastdrop.mask_format import ONE
from fastdrop.rng.capsule import FILL

numba = pytest.importorskip("numba")
import fastdrop.numba as fn  # noqa: E402
from fastdrop.backends.numba import ranges  # noqa: E402

DOCUMENT = ROOT / "docs" / "numba.md"
PACKAGE = str(Path(fastdrop.__file__).parent.parent)  # for other processes to import
OUT = np.empty(3, np.float32)

# A user's program. It prints how often Numba found its function on disk, and a digest.
PROGRAM = """
import hashlib, pickle, sys, warnings
if "hidden" in sys.argv:
    sys.modules["fastdrop._cy._core"] = None
import numba, numpy as np
from numba import njit, prange
import fastdrop, fastdrop.numba as fn
from fastdrop.rng import as_rng

warnings.simplefilter("error", numba.core.errors.NumbaWarning)

@njit(parallel=True, cache=True)
def forward(key, draw, p, x, step, out):
    status = 0
    for task in prange((x.size + step - 1) // step):
        low, high = task * step, min(task * step + step, x.size)
        status = max(status, fn.dropout_range(key, draw, p, low, x[low:high], out[low:high]))
    fn.check(status)

ROWS = [(fastdrop.ARS4x32, p, 3, 5000) for p in (0.0, 1.0, 0.5, 1 / 3, 1e-9)]
ROWS += [(fastdrop.ARS4x32, 0.1, *how) for how in ((1, 70_001), (2, 16384), (3, 777), (8, 4097))]
OTHERS = (fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64)
ROWS += [(kind, 0.125, 2, 9000) for kind in (*OTHERS, np.random.Philox, np.random.default_rng)]
if "many" in sys.argv:
    ROWS += [(kind, p, 2, 9000) for kind in (fastdrop.ARS4x32, *OTHERS) for p in (0.1, 0.25, 0.5)]

x, digest = np.random.default_rng(0).standard_normal(70_001).astype(np.float32), hashlib.sha256()
for make, p, threads, step in ROWS:
    numba.set_num_threads(threads)
    rng, same = make(5), make(5)
    for _ in range(2):  # the second draw is elsewhere in the stream
        key, draw = fn.reserve(rng, x.size, p, dtype=x.dtype)
        out = np.full_like(x, 7)
        forward(key, draw, p, x, step, out)
        y = fastdrop.dropout(x, p, rng=same)
        assert out.tobytes() == y.tobytes(), (make, p, threads, step)
        digest.update(out.tobytes())
    assert as_rng(rng).random_raw() == as_rng(same).random_raw()

with open(sys.argv[1], "rb+") as file:
    before = file.read()
    if before:
        try: forward(*pickle.loads(before), 0.3, x, 4096, out)
        except ValueError as error: print(error)
    else:
        pickle.dump((key, draw), file)
print(sum(forward.stats.cache_hits.values()), sum(forward.stats.cache_misses.values()))
print(fastdrop.get_backend(), digest.hexdigest())
"""


@pytest.mark.parametrize("rows", ["few", pytest.param("many", marks=pytest.mark.slow)])
def test_a_program_in_several_processes(tmp_path: Path, rows: str) -> None:
    """Any generator, rate, cut and number of threads; only the first process compiles."""
    (tmp_path / "program.py").write_text(PROGRAM)
    key = tmp_path / "key"
    key.touch()

    def run(backend: str, *arguments: str) -> list[str]:
        environment = {"PYTHONPATH": PACKAGE, "NUMBA_NUM_THREADS": "8"}
        result = subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), str(key), rows, *arguments],
            env={**os.environ, **environment, "FASTDROP_BACKEND": backend},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    compiled, found = run("")
    assert compiled == "0 1"
    digest = found.split()[1]
    for backend, how in (("reference", ""), ("numba", "hidden")):  # without the extension
        foreign_key, loaded, again = run(backend, how)
        assert "key must be an array that fastdrop.numba.reserve returned" in foreign_key
        assert (loaded, again) == ("1 0", f"{backend} {digest}")


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        *(("float32", shape) for shape in ((9000,), (), (0,), (30, 300))),
        ("complex64", (9000,)),
        pytest.param("float64", (9000,), marks=pytest.mark.slow),
        pytest.param("complex128", (30, 300), marks=pytest.mark.slow),
    ],
)
def test_shapes_and_dtypes(dtype: str, shape: tuple[int, ...]) -> None:
    x = any_bits(shape, dtype)
    rng, same = fastdrop.Philox(1), fastdrop.Philox(1)
    for p in (0.3, 0.0, 1.0):
        key, draw = fn.reserve(rng, x.size, p, dtype=dtype)
        out = np.empty_like(x)
        fn.check(fn.dropout_range(key, draw, p, 0, x, out))
        assert contents(out) == contents(fastdrop.dropout(x, p, rng=same))
        assert rng.position == same.position
        inplace = x.copy()
        fn.check(fn.dropout_range(key, draw, p, 0, inplace, inplace))
        assert contents(inplace) == contents(out)


def test_any_part_and_alignment() -> None:
    x = any_bits((20_001,), np.float32)
    y = fastdrop.dropout(x, 0.1, rng=1)
    key, draw = fn.reserve(1, x.size, 0.1, dtype=x.dtype)
    memory = np.empty(4 * x.size + 1, np.uint8)
    for out in (np.empty_like(x), memory[1:].view(np.float32), memory[:-1].view(np.float32)[:]):
        for low, high in ((0, 20_001), (1, 2), (4095, 4097), (4096, 16_384), (77, 13_001)):
            part = out[low:high]
            fn.check(fn.dropout_range(key, draw, 0.1, low, x[low:high], part))
            assert contents(part) == contents(y[low:high])


@pytest.mark.slow
def test_large_arrays_are_written_past_the_caches() -> None:
    from fastdrop.backends.numba.backend import SURELY_CACHED, last_level_cache

    x = np.ones(last_level_cache() // 8 + 4096, np.float32)
    y, out = fastdrop.dropout(x, 0.1, rng=1), np.empty_like(x)
    key, draw = fn.reserve(1, x.size, 0.1, dtype=x.dtype)
    for parts in (1, 2 * x.size // SURELY_CACHED):
        out[...] = 7
        for low in range(0, x.size, step := x.size // parts):
            part = x[low : low + step]
            fn.check(fn.dropout_range(key, draw, 0.1, low, part, out[low : low + step]))
        np.testing.assert_array_equal(out, y)
    fn.check(fn.dropout_range(key, draw, 0.1, 0, x, x))
    np.testing.assert_array_equal(x, y)


def test_draws_lie_anywhere_in_a_stream() -> None:
    """Positions of 2**63 and more are of the same type in compiled code."""
    x, out = np.ones(5000, np.float32), np.empty(5000, np.float32)
    for position in (0, (1 << 63) - 100, (1 << 63) + 1, (1 << 64) - 2000):
        rng, same = fastdrop.ARS4x32(1), fastdrop.ARS4x32(1)
        rng.state = same.state = {**rng.state, "position": position}
        key, draw = fn.reserve(rng, x.size, 0.1, dtype=x.dtype)
        assert (type(draw), int(draw)) == (np.uint64, position)
        fn.check(fn.dropout_range(key, draw, 0.1, 0, x, out))
        np.testing.assert_array_equal(out, fastdrop.dropout(x, 0.1, rng=same))


def test_bits_are_those_of_the_packed_mask() -> None:
    """Both may be read in compiled code, whole or by element."""

    @numba.njit
    def differences(words, packed, begin, n):  # type: ignore[no-untyped-def]
        found = 0
        for i in range(n):
            found += fn.kept(words, i) != fn.kept(packed, begin + i)
        return found

    for p in (0.1, 0.5, 0.0, 1.0):
        n, rng = 3 * 4096 + 5, fastdrop.ARS4x32(3)
        key, draw = fn.reserve(rng, n, p, dtype="float32")
        mask = fastdrop.mask(n, p, rng=3)
        packed, bits = mask.to_packed(), np.full(66, 7, np.uint64)
        for block in range(4):
            fn.check(fn.block_bits(key, draw, fn.threshold(p), block, bits))
            size = min(4096, n - 4096 * block)
            if size == 4096:
                octets = bits[:64].astype("<u8").tobytes()
                assert octets == packed[512 * block : 512 * (block + 1)].tobytes()
            assert differences(bits, packed, np.uint32(4096 * block), np.int32(size)) == 0
        assert bits[64:].tolist() == [7, 7]
    array = np.asarray(fastdrop.mask(100, 0.3, rng=3)).ravel()
    packed = np.packbits(array, bitorder="little")
    assert [fn.kept(packed, i) for i in range(100)] == array.tolist()
    assert [fn.kept(packed[:96].view(np.uint8), i) for i in range(96)] == array[:96].tolist()


def test_thresholds_in_compiled_code_are_pythons() -> None:
    @numba.njit(fastmath=True)  # which may take any number for no NaN
    def compiled(p):  # type: ignore[no-untyped-def]
        return fn.threshold(p)

    generator = np.random.default_rng(0)
    chosen = [*generator.random(200), *(generator.random(200) * 2.0**-30), 0.5, 1e-12, 2.0**-41]
    for p in (*chosen, *(1 - np.array(chosen)), 0, 1, np.float32(0.1)):
        assert fn.threshold(p) == compiled(p) == ONE - round(float(p) * ONE)
    for p in (-1e-9, 1.0000001, np.inf, np.nan, 2):
        for function in (fn.threshold, compiled):
            with pytest.raises(ValueError, match="has to be between 0 and 1"):
                function(p)


WORDS = numba.types.CPointer(numba.types.uint64)


@numba.cfunc(numba.types.int32(WORDS, numba.types.uint64, numba.types.uint64, WORDS))
def _broken(key, position, n, out):  # type: ignore[no-untyped-def]
    for i in range(n):
        out[i] = key[0] * (position + np.uint64(i))
    return 5 if position >= 336 else 0


class Broken(fastdrop.RNG):
    """A generator whose `fill` fails from word 336 on, which is the second block's first."""

    name = "broken in test_numba"
    capsule = fastdrop.make_capsule(_broken.address, key_words=1)


@FILL
def _silent(key: int, position: int, n: int, out: int) -> int:
    """Return 0 and write nothing, as what ctypes makes of Python's code does after an error."""
    return 0


class Silent(fastdrop.RNG):
    name = "silent in test_numba"
    capsule = fastdrop.make_capsule(ctypes.cast(_silent, ctypes.c_void_p).value, key_words=3)


def test_the_documents_example() -> None:
    failed, tried = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert (failed, tried > 5) == (0, True)


def test_what_users_compile_has_a_number() -> None:
    """Numba's cache does not notice when that changes: a new `LAYOUT` has old code refuse keys.

    If this fails, count `LAYOUT` up, unless nothing has been released since the last change.
    """
    digest = hashlib.sha256()
    for module, begin, end in (
        (ranges, "# --- The array", "class Functions"),
        (ranges, "# --- Which process", "# --- The functions"),
        (ranges, "# --- What users' code is compiled with", r"\Z"),
        (fn, "# What can be wrong", "def check"),
        (fn, "# --- In compiled code", "# --- The types that"),
    ):
        source = Path(module.__file__).read_text()
        [part] = re.findall(f"^{begin}.*?^{end}", source, re.DOTALL | re.MULTILINE)
        digest.update(part.encode())
    assert (ranges.LAYOUT, digest.hexdigest()[:16]) == (1, "71602008f3de2bde")


def test_a_generator_of_ones_own(backend: str) -> None:
    x = np.ones(4096, np.float32)
    key, draw = fn.reserve(Broken(1), x.size, 0.1, dtype=x.dtype)
    assert key.size == ranges.KEY + 1
    out = np.empty_like(x)
    fn.check(fn.dropout_range(key, draw, 0.1, 0, x, out))
    np.testing.assert_array_equal(out, fastdrop.dropout(x, 0.1, rng=Broken(1)))


@numba.njit(parallel=True)
def in_parallel(key, draw, p, x, step, out):  # type: ignore[no-untyped-def]
    status = 0
    for task in numba.prange((x.size + step - 1) // step):
        low, high = task * step, min(task * step + step, x.size)
        status = max(status, fn.dropout_range(key, draw, p, low, x[low:high], out[low:high]))
    fn.check(status)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_of_the_generator_is_an_error(threads: int) -> None:
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("Numba has one thread here")
    x = np.ones(40_000, np.float32)
    numba.set_num_threads(threads)
    for kind, written in ((Broken, [True, *[False] * 9]), (Silent, [False] * 10)):
        key, draw = fn.reserve(kind(1), x.size, 0.1, dtype=x.dtype)
        out = np.full_like(x, -1)
        with pytest.raises(RuntimeError, match="the RNG failed: its fill function"):
            in_parallel(key, draw, 0.1, x, 4096, out)
        blocks = [bool((out[i : i + 4096] != -1).any()) for i in range(0, x.size, 4096)]
        assert blocks == written
        bits = np.full(64, 7, np.uint64)
        with pytest.raises(RuntimeError, match="the RNG failed"):
            fn.check(fn.block_bits(key, draw, fn.threshold(0.1), 1, bits))
        assert (bits == 7).all()


def test_wrong_values_are_refused_before_anything_is_written() -> None:
    x = np.ones(5000, np.float32)
    key, draw = fn.reserve(1, 6000, 0.1, dtype=x.dtype)
    other_version = key.copy()
    other_version[ranges.LAYOUT_AT] += 1
    memory = np.full(6000, -1, np.float32)
    out = memory[:5000]
    cases: list[tuple[str, Any]] = [
        ("key must be an array that .* in this process", {"key": np.ones(99, np.uint64)}),
        ("key must be an array", {"key": key[:5]}),
        ("key must be an array", {"key": key[:-1].copy()}),  # a word of the generator's key lacks
        ("a float32 p was rounded", {"p": np.float32(0.1)}),
        ("another version of fastdrop", {"key": other_version}),
        *(("p must be the one that was reserved", {"p": p}) for p in (0.2, -1.0, np.nan, 1)),
        *(("first and block must be 0 or more, and", {"first": n}) for n in (-1, 1001, 1 << 62)),
        ("first and block", {"first": np.uint64((1 << 64) - 1)}),
        ("out must have the size of x", {"out": memory[:4999]}),
        ("out must be x itself or not overlap it", {"x": memory[1:5001]}),
        ("must have the dtype that was reserved", {"x": x.astype(float), "out": np.ones(5000)}),
    ]
    for message, changed in cases:
        arguments = {"key": key, "draw": draw, "p": 0.1, "first": 0, "x": x, "out": out} | changed
        with pytest.raises(ValueError, match=message):
            fn.check(fn.dropout_range(**arguments))
    assert (memory == -1).all()
    zero, drawn = fn.reserve(1, 5000, -0.0, dtype=x.dtype)
    fn.check(fn.dropout_range(zero, drawn, 0.0, 0, x, out))
    assert (out == 1).all()
    bits = np.full(64, 7, np.uint64)
    block_cases: list[tuple[str, Any]] = [
        ("threshold that of p", {"threshold": fn.threshold(0.2)}),
        ("first and block", {"block": -1}),
        ("first and block", {"block": 2}),
        ("out must .* 64 words or more", {"out": bits[:63]}),
        ("key must be an array", {"key": bits}),
    ]
    for message, changed in block_cases:
        arguments = {"key": key, "draw": draw, "threshold": fn.threshold(0.1), "block": 0}
        with pytest.raises(ValueError, match=message):
            fn.check(fn.block_bits(**(arguments | {"out": bits} | changed)))
    assert (bits == 7).all()


READ_ONLY = np.ones(3, np.float32)
READ_ONLY.flags.writeable = False
OF_X = "x must be a C-contiguous array of one of the dtypes float32, float64, complex64, complex128"
OF_OUT = "out must be a writable C-contiguous array of x's dtype, float32, but got"


@pytest.mark.parametrize(
    ("message", "function", "changed"),
    [
        (OF_X, fn.dropout_range, {"x": np.ones(3, int)}),
        (OF_X, fn.dropout_range, {"x": np.ones(6, np.float32)[::2]}),
        (OF_OUT, fn.dropout_range, {"out": np.ones(3)}),
        (OF_OUT, fn.dropout_range, {"out": READ_ONLY}),
        (OF_OUT, fn.dropout_range, {"out": np.ones((3, 3), np.float32).T}),
        ("key must be an array", fn.dropout_range, {"key": np.ones(30)}),
        ("draw must be an integer", fn.dropout_range, {"draw": 1.0}),
        ("p must be a real number", fn.dropout_range, {"p": None}),
        ("first must be an integer", fn.dropout_range, {"first": 0.0}),
        ("out must be .* uint64 with one axis", fn.block_bits, {"out": np.ones(64, np.int64)}),
        ("threshold must be an integer", fn.block_bits, {"threshold": 0.5}),
        ("block must be an integer", fn.block_bits, {"block": 0.5}),
    ],
)
def test_wrong_types_are_refused_when_code_is_compiled(
    message: str, function: Callable[..., int], changed: dict[str, Any]
) -> None:
    key, draw = fn.reserve(1, 3, 0.5, dtype="float32")
    own: dict[str, Any] = {"p": 0.5, "first": 0, "x": OUT.copy(), "out": OUT}
    if function is fn.block_bits:
        own = {"threshold": ONE // 2, "block": 0, "out": np.empty(64, np.uint64)}
    with pytest.raises(numba.core.errors.TypingError, match=message):
        function(**({"key": key, "draw": draw} | own | changed))


def test_bits_of_other_types_are_refused() -> None:
    for bits in (np.ones(3, bool), np.ones((3, 3), np.uint8)):
        with pytest.raises(
            TypeError, match="bits must be an array of uint64 or uint8 with one axis"
        ):
            fn.kept(bits, 0)
        with pytest.raises(numba.core.errors.TypingError, match="bits must be an array of uint64"):
            numba.njit(lambda bits: fn.kept(bits, 0))(bits)


def test_a_refused_reserve_takes_no_words() -> None:
    rng = fastdrop.ARS4x32(1)
    for arguments, error, message in (
        ((-1, 0.5), ValueError, "n must be 0 or more"),
        ((1 << 63, 0.0), ValueError, "n must be below"),
        ((2.5, 0.5), TypeError, "n must be an int"),
        ((9, 1.5), ValueError, "has to be between 0 and 1"),
        ((9, float("nan")), ValueError, "has to be between 0 and 1"),
        ((9, "half"), TypeError, "real number"),
    ):
        with pytest.raises(error, match=message):
            fn.reserve(rng, *arguments, dtype="float32")
    for dtype in ("int32", "float16"):
        with pytest.raises(TypeError, match="dtype must be None or one of float32, float64"):
            fn.reserve(rng, 9, 0.5, dtype=dtype)
    assert rng.position == 0
    rng.state = {**rng.state, "position": (1 << 64) - 64}
    with pytest.raises(RuntimeError, match="the stream has 63 words left, but 64 are needed"):
        fn.reserve(rng, 9, 0.5, dtype="float32")
    forward_only = np.random.MT19937(1)
    before = str(forward_only.state)
    for source in (forward_only, np.random.Generator(forward_only), np.random.SFC64(1)):
        with pytest.raises(TypeError, match="rng must be a generator with random access"):
            fn.reserve(source, 9, 0.5, dtype="float32")
    assert str(forward_only.state) == before


class Uncompiled(fastdrop.RNG):
    name = "uncompiled in test_numba"

    @classmethod
    def key_words(cls) -> int:
        return 1


def test_a_generator_without_a_compiled_fill_is_refused() -> None:
    rng = Uncompiled(1)
    with pytest.raises(TypeError, match="rng must have a capsule"):
        fn.reserve(rng, 9, 0.5, dtype="float32")
    assert rng.position == 0


@pytest.mark.slow
def test_all_dtypes_may_be_reserved_at_once() -> None:
    key, _ = fn.reserve(fastdrop.Philox(1), 9, 0.5)
    assert all(key[ranges.RANGES : ranges.LENGTH])
    key, _ = fn.reserve(fastdrop.Philox(1), 9, 0.5, dtype="float64")
    assert key[ranges.RANGES : ranges.LENGTH].astype(bool).tolist() == [0, 1, 0, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_may_use_its_parents_key() -> None:
    code = """
import os, numpy as np, fastdrop.numba as fn
x = np.ones(5000, np.float32)
key, draw = fn.reserve(1, x.size, 0.1, dtype=x.dtype)
before, out = np.empty_like(x), np.empty_like(x)
fn.check(fn.dropout_range(key, draw, 0.1, 0, x, before))
child = os.fork()
good = fn.dropout_range(key, draw, 0.1, 0, x, out) == 0 and (out == before).all()
if child == 0:
    os._exit(int(good))
print(good, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("True 1", 0), result.stderr
