"""The C files by themselves: no warnings, and one result, whatever compiles and runs them.

`tests/helpers/digests.c` prints a line for each of 527 cases, and the reference backend
recomputes every one. arm64 runs in an emulator. What is not installed is skipped:

    apt-get install clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user musl-tools
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from runpy import run_path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
import pytest
from paths import HELPERS, ROOT
from support import dtype_of

from fastdrop._formulas.normal import Noise
from fastdrop.backends import Draw, Draws
from fastdrop.backends.form import SCALE, Form
from fastdrop.backends.reference import ReferenceBackend
from fastdrop.mask_format import ONE, rate
from fastdrop.rng import PCG64, ARS4x32, Philox, Philox4x32
from fastdrop.rng.base import Stream

SOURCES = ROOT / "fastdrop" / "_cy"
DRIVER = HELPERS / "digests.c"
DRAW = 5  # as in digests.c
DRAWS = np.array([DRAW, 7000001, 3], np.uint64)
ALGORITHMS = {
    "ars4x32": (ARS4x32, 2),
    "philox4x32": (Philox4x32, 2),
    "philox": (Philox, 6),
    "pcg64": (PCG64, 4),
}

pytestmark = [
    pytest.mark.skipif(not (SOURCES / "kernels").exists(), reason="only a source tree has them"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no compiler for the kernels"),
]


class Compiler(NamedTuple):
    """How to compile, and how to run the result."""

    command: tuple[str, ...]
    run: tuple[str, ...] = ()
    sets: str = "native"  # what to build for beside the baseline: all of setup.py's for this
    # machine, those of this name in it, or none
    flags: tuple[str, ...] = ()  # behind setup.py's


CROSS = ("-static",), ("qemu-aarch64",), "ARM64"
CC = os.environ.get("CC", "cc").split()[0]
COMPILERS = {
    "cc": Compiler((CC,)),
    "clang": Compiler(("clang",)),
    "arm64-gcc": Compiler(("aarch64-linux-gnu-gcc", *CROSS[0]), *CROSS[1:]),
    "musl-gcc": Compiler(("musl-gcc", "-static")),
    "arm64-clang": Compiler(("clang", "--target=aarch64-linux-gnu", *CROSS[0]), *CROSS[1:]),
}
# Flags that users have in CFLAGS: the baseline then has some of AVX2 or of AVX-512, or all.
PROCESSORS = {
    name: Compiler((CC,), (), "none", (*flags.split(), "-O1", "-DDROP_BASELINE_ONLY"))
    for name, flags in {
        "ivybridge": "-march=ivybridge",  # float16's conversions without AVX2
        "sandybridge": "-march=sandybridge",
        "core-avx2": "-march=core-avx2",
        "x86-64-v2": "-march=x86-64-v2",
        "avx512f": "-march=core-avx2 -mavx512f",  # nothing that came later
    }.items()
}


def versions() -> dict[str, Compiler]:
    """Return the compilers that are installed with a version in their name: gcc-11, clang-19."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    names = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return {
        name: Compiler((name,)) for name in sorted(names) if re.fullmatch(r"(gcc|clang)-\d+", name)
    }


parametrized = pytest.mark.parametrize("name", {**COMPILERS, **versions()})


def find(name: str) -> Compiler:
    compiler = {**COMPILERS, **versions(), **PROCESSORS}[name]
    for program in (compiler.command[0], *compiler.run):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if name in PROCESSORS and not machine().startswith("x86_64"):
        pytest.skip(f"{CC} compiles for {machine()}")
    return compiler


@cache
def machine() -> str:
    """Return what the C compiler compiles for."""
    command = [CC, "-dumpmachine"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def build_settings() -> dict[str, Any]:
    """Return setup.py's names: it knows the flags and the instruction sets."""
    return run_path(str(ROOT / "setup.py"))


@cache
def build(compiler: Compiler) -> tuple[Path, str]:
    """Return the compiled driver, and what the compiler had to say."""
    settings = build_settings()
    if compiler.sets == "native":
        sets = settings["instruction_sets"]()
    else:
        sets = {"baseline": [], **({} if compiler.sets == "none" else settings[compiler.sets])}
    folder = Path(mkdtemp(prefix="fastdrop-"))
    flags = [*settings["FLAGS"], "-Wall", "-Wextra", f"-I{SOURCES}"]
    steps = [
        (
            ROOT / unit.source,
            folder / f"{Path(unit.source).stem}_{unit.isa}.o",
            [*unit.flags, *(f"-D{name}={value}" for name, value in unit.macros)],
        )
        for unit in settings["units"](sets)
    ]
    steps.append((DRIVER, folder / "digests.o", []))

    def compile_one(source: Path, target: Path, more: list[str]) -> str:
        arguments = [*flags, *more, *compiler.flags, "-c", str(source), "-o", str(target)]
        command = [*compiler.command, *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
        return result.stderr

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = "".join(pool.map(compile_one, *zip(*steps, strict=True)))
    driver = folder / "digests"
    objects = [str(target) for _, target, _ in steps]
    subprocess.run([*compiler.command, *objects, "-pthread", "-o", str(driver)], check=True)
    return driver, said


def run(compiler: Compiler, *arguments: str) -> list[str]:
    command = [*compiler.run, str(build(compiler)[0]), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode == -signal.SIGILL and compiler in PROCESSORS.values():
        pytest.skip(f"no processor for {' '.join(compiler.flags)}")
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
    return result.stdout.splitlines()


@pytest.mark.slow
@parametrized
def test_compiles_without_a_warning(name: str) -> None:
    said = build(find(name))[1]
    assert said == ""


@pytest.mark.slow
@parametrized
def test_every_line_is_the_reference_backends(name: str) -> None:
    compiler = find(name)
    available = run(compiler)
    assert "baseline" in available
    assert compiler.sets != "ARM64" or "aes" in available  # qemu has the instructions
    for isa in available:
        compare(name, compiler, isa)


def compare(name: str, compiler: Compiler, isa: str) -> None:
    """Check an instruction set's lines."""
    lines = [line.rsplit(" digest=", 1) for line in run(compiler, isa)]
    assert len(lines) > 400
    assert len({case for case, _ in lines}) == len(lines)
    wrong = [case for case, digest in lines if int(digest, 16) != expected(case)]
    assert not wrong, f"{name} {isa}: {len(wrong)} of {len(lines)}, first {wrong[0]}"


for_processors = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "ivybridge" else pytest.mark.slow)
        for name in PROCESSORS
    ],
)


@pytest.mark.slow
@for_processors
def test_flags_for_a_processor_change_no_line(name: str) -> None:
    compiler = find(name)
    assert build(compiler)[1] == ""
    assert run(compiler) == ["baseline"]
    compare(name, compiler, "baseline")


# --- The reference's answers ----------------------------------------------------------------


def mix(z: Any) -> np.ndarray:
    """SplitMix64's step, as in digests.c."""
    z = np.atleast_1d(np.asarray(z, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def digest_of(data: np.ndarray) -> int:
    words = data.view("<u8")
    return int(mix(words ^ mix(np.arange(words.size, dtype=np.uint64))).sum())


def random_bytes(count: int, seed: int, only: int = (1 << 64) - 1) -> np.ndarray:
    words = mix(np.uint64(seed << 32) + np.arange(count // 8, dtype=np.uint64)) & np.uint64(only)
    return words.astype("<u8").view(np.uint8)


def stream_of(name: str) -> Stream:
    algorithm, words = ALGORITHMS[name]
    key = mix(np.arange(1000, 1006, dtype=np.uint64))
    key[3] |= np.uint64(1)
    return Stream(algorithm, key[:words])


# All bits but the exponent's highest: operands are neither NaN nor infinite (see digests.c).
FINITE = {2: 0xBFFFBFFFBFFFBFFF, 4: 0xBFFFFFFFBFFFFFFF, 8: 0xBFFFFFFFFFFFFFFF}


@cache
def expected(line: str) -> int:
    """Return the digest that the reference backend gives for a line's case."""
    case = dict(part.split("=") for part in line.split())
    number = {name: int(text) for name, text in case.items() if re.fullmatch(r"-?\d+", text)}
    stream = stream_of(case.get("rng", "ars4x32"))
    reference = ReferenceBackend()
    if case["op"] == "words":
        return digest_of(stream.words(number["position"], number["n"]).astype("<u8"))
    drop_rate = rate(1 - number["threshold"] / ONE)
    assert drop_rate.threshold == number["threshold"]
    drawn = partial(Draw, stream, DRAW, drop_rate)
    if case["op"] == "bits":
        out = np.zeros(-(-number["n"] // 64) * 8, np.uint8)
        packed = out[: -(-number["n"] // 8)]
        reference.bits(drawn(number["first"]), number["n"], packed)
        return digest_of(out)

    def axes(name: str) -> tuple[int, ...]:
        return tuple(int(text) for text in case[name].split(","))

    if case["op"] == "window":
        draws = Draws(stream, DRAWS, drop_rate, number["first"])
        window = reference.sample_window(draws, axes("shape"), axes("strides"))
        return digest_of(window.view(np.uint8))
    if case["op"] == "samples":
        draws = Draws(stream, DRAWS, drop_rate, number["first"])
        n = len(DRAWS) * number["each"]
        x, y = (random_bytes(number["bytes"], seed) for seed in (0, 1))
        rows = [a.view(np.float32)[:n].reshape(len(DRAWS), -1) for a in (x, y)]
        reference.evaluate_samples(draws, (1,), SCALE, *rows)
        return digest_of(y)

    dtype = dtype_of(case["dtype"])

    def view(data: np.ndarray, name: str, skew: int = number["skew"]) -> np.ndarray:
        strides = [step * dtype.itemsize for step in axes(name)]
        offset = number[f"{name}_at"] * dtype.itemsize + skew
        return np.ndarray(axes("shape"), dtype, data.data, offset, strides)

    x = random_bytes(number["bytes"], 0)
    y = x if number["inplace"] else random_bytes(number["bytes"], 1)
    if case["op"] == "apply":
        arrays = view(x, "x"), view(y, "y")
        reference.apply(drawn(number["first"]), *arrays)
        return digest_of(y)
    if case["op"] == "noise":
        arrays, noise = (
            (view(x, "x"), view(y, "y")),
            Noise(case["factor"] == "1", float(case["spread"])),
        )
        reference.add_noise(stream, DRAW, noise, *arrays)
        return digest_of(y)
    assert case["op"] == "evaluate"
    part = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    operands = tuple(
        view(random_bytes(number["bytes"], 2 + k, FINITE[part]), "x", skew=0)
        for k in range(number["operands"])
    )
    form = Form(case["form"], float(case["shift"]), float(case["dropped"]), operands)
    arrays = view(x, "x"), view(y, "y")
    reference.evaluate(drawn(0), axes("mask"), form, *arrays)
    return digest_of(y)


def test_the_digests_can_tell() -> None:
    """One bit, or two words that change places, changes a digest."""
    data = random_bytes(4096, 9)
    flipped, swapped = data.copy(), data.copy()
    flipped[1234] ^= 1
    swapped[:8], swapped[8:16] = data[8:16], data[:8]
    assert len({digest_of(data), digest_of(flipped), digest_of(swapped)}) == 3
    assert sys.byteorder == "little"
