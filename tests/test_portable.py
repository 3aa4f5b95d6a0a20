"""The C files by themselves: no warnings, and one result, whatever compiles and runs them.

`portable/digests.c` prints a line for each of 455 cases, and the reference backend
recomputes every one. arm64 runs in an emulator. What is not installed is skipped:

    apt-get install clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user musl-tools
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from runpy import run_path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import dtype_of

from fastdrop._formulas.normal import Noise
from fastdrop.backends.form import Form
from fastdrop.backends.reference import ReferenceBackend
from fastdrop.mask_format import ONE, rate
from fastdrop.rng import PCG64, Philox, Philox4x32, Stream

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "fastdrop" / "_cy"
DRIVER = Path(__file__).with_name("portable") / "digests.c"
DRAW = 5  # as in digests.c
ALGORITHMS = {"philox4x32": (Philox4x32, 2), "philox": (Philox, 6), "pcg64": (PCG64, 4)}

pytestmark = [
    pytest.mark.skipif(not (SOURCES / "kernels").exists(), reason="only a source tree has them"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no compiler for the kernels"),
]


class Compiler(NamedTuple):
    """How to compile, and how to run the result."""

    command: tuple[str, ...]
    run: tuple[str, ...] = ()
    native: bool = True


CROSS = ("-static",), ("qemu-aarch64",), False
COMPILERS = {
    "cc": Compiler((os.environ.get("CC", "cc").split()[0],)),
    "clang": Compiler(("clang",)),
    "arm64-gcc": Compiler(("aarch64-linux-gnu-gcc", *CROSS[0]), *CROSS[1:]),
}
SLOW = {
    "musl-gcc": Compiler(("musl-gcc", "-static")),
    "arm64-clang": Compiler(("clang", "--target=aarch64-linux-gnu", *CROSS[0]), *CROSS[1:]),
}


def versions() -> dict[str, Compiler]:
    """Return the compilers that are installed with a version in their name: gcc-11, clang-19."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    names = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return {
        name: Compiler((name,)) for name in sorted(names) if re.fullmatch(r"(gcc|clang)-\d+", name)
    }


parametrized = pytest.mark.parametrize(
    "name",
    [*COMPILERS, *(pytest.param(name, marks=pytest.mark.slow) for name in {**SLOW, **versions()})],
)


def find(name: str) -> Compiler:
    compiler = {**COMPILERS, **SLOW, **versions()}[name]
    for program in (compiler.command[0], *compiler.run):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return compiler


@cache
def build_settings() -> dict[str, Any]:
    """Return setup.py's names: it knows the flags and the instruction sets."""
    return run_path(str(ROOT / "setup.py"))


@cache
def build(compiler: Compiler) -> tuple[Path, str]:
    """Return the compiled driver, and what the compiler had to say."""
    settings = build_settings()
    sets = settings["instruction_sets"]() if compiler.native else {"baseline": []}
    folder = Path(mkdtemp(prefix="fastdrop-"))
    flags = [*settings["FLAGS"], "-Wall", "-Wextra", f"-I{SOURCES}"]
    sources = [DRIVER, *(SOURCES / name for name in settings["SOURCES"])]
    steps = [
        (ROOT / settings["KERNELS"], folder / f"kernels_{isa}.o", [*more, f"-DDROP_ISA={isa}"])
        for isa, more in reversed(sets.items())  # longest first
    ]
    steps += [(source, folder / f"{source.stem}.o", []) for source in sources]

    def compile_one(source: Path, target: Path, more: list[str]) -> str:
        command = [*compiler.command, *flags, *more, "-c", str(source), "-o", str(target)]
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
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
    return result.stdout.splitlines()


@parametrized
def test_compiles_without_a_warning(name: str) -> None:
    said = build(find(name))[1]
    assert said == ""


@parametrized
def test_every_line_is_the_reference_backends(name: str) -> None:
    compiler = find(name)
    available = run(compiler)
    assert "baseline" in available
    for isa in available:
        lines = [line.rsplit(" digest=", 1) for line in run(compiler, isa)]
        assert len(lines) > 400
        assert len({case for case, _ in lines}) == len(lines)
        wrong = [case for case, digest in lines if int(digest, 16) != expected(case)]
        assert not wrong, f"{name} {isa}: {len(wrong)} of {len(lines)}, first {wrong[0]}"


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
    stream = stream_of(case.get("rng", "philox4x32"))
    reference = ReferenceBackend()
    if case["op"] == "words":
        return digest_of(stream.words(number["position"], number["n"]).astype("<u8"))
    drop_rate = rate(1 - number["threshold"] / ONE)
    assert drop_rate.threshold == number["threshold"]
    if case["op"] == "bits":
        out = np.zeros(-(-number["n"] // 64) * 8, np.uint8)
        packed = out[: -(-number["n"] // 8)]
        reference.bits(stream, DRAW, drop_rate, number["first"], number["n"], packed)
        return digest_of(out)

    def axes(name: str) -> tuple[int, ...]:
        return tuple(int(text) for text in case[name].split(","))

    dtype = dtype_of(case["dtype"])

    def view(data: np.ndarray, name: str, skew: int = number["skew"]) -> np.ndarray:
        strides = [step * dtype.itemsize for step in axes(name)]
        offset = number[f"{name}_at"] * dtype.itemsize + skew
        return np.ndarray(axes("shape"), dtype, data.data, offset, strides)

    x = random_bytes(number["bytes"], 0)
    y = x if number["inplace"] else random_bytes(number["bytes"], 1)
    if case["op"] == "apply":
        arrays = view(x, "x"), view(y, "y")
        reference.apply(stream, DRAW, drop_rate, number["first"], *arrays)
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
    reference.evaluate(stream, DRAW, drop_rate, 0, axes("mask"), form, *arrays)
    return digest_of(y)


def test_the_digests_can_tell() -> None:
    """One bit, or two words that change places, changes a digest."""
    data = random_bytes(4096, 9)
    flipped, swapped = data.copy(), data.copy()
    flipped[1234] ^= 1
    swapped[:8], swapped[8:16] = data[8:16], data[:8]
    assert len({digest_of(data), digest_of(flipped), digest_of(swapped)}) == 3
    assert sys.byteorder == "little"
