"""Guard that noise cannot blur: ``python -m bench.instructions`` counts instructions an element.

Valgrind's callgrind runs each kernel once on one thread and counts inside the C code only. The counts depend
on the compiler, so they are kept for each; Valgrind 3.19 knows no AVX-512.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

import fastdrop
from fastdrop._cy import core
from fastdrop.mask_format import rate

COUNTS: Final = Path(__file__).with_name("instructions.json")
TOLERANCE: Final = 0.03
ELEMENTS: Final = 1 << 18
UNKNOWN_TO_VALGRIND: Final = {"avx512"}
ENTRIES: Final = ("drop_apply", "drop_bits")  # the C functions that hold all the work

Kernel = tuple[str, Callable[[], Any]]
Counts = dict[str, float]  # a kernel's name: instructions an element


def kernels() -> list[Kernel]:
    """Return what is counted, each of which enters C once."""
    found: list[Kernel] = []
    for p in (0.5, 0.1):
        for name in ("float32", "float16", "float64"):
            found.append((f"{name}, philox4x32, p = {p}", apply(name, "Philox4x32", p)))
        for rng in ("PCG64", "Philox"):
            found.append((f"float32, {rng.lower()}, p = {p}", apply("float32", rng, p)))
        found.append((f"mask only, philox4x32, p = {p}", mask_only(p)))
    return found


def apply(name: str, rng: str, p: float) -> Callable[[], Any]:
    x, y = aligned(name), aligned(name)
    generator = getattr(fastdrop, rng)(2014)
    return lambda: fastdrop.dropout(x, p, rng=generator, out=y)


def mask_only(p: float) -> Callable[[], Any]:
    stream, draw = fastdrop.Philox4x32(2014).reserve(0)
    mask = fastdrop.Mask(stream, draw, rate(p), (ELEMENTS,))
    return mask.to_packed


def aligned(name: str) -> np.ndarray[Any, Any]:
    """Return zeros that start at a cache line: loops' heads and tails are counted too."""
    memory = np.zeros(ELEMENTS * np.dtype(name).itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + ELEMENTS * np.dtype(name).itemsize].view(name)


def drive() -> None:
    """Run every kernel once: what Valgrind watches."""
    fastdrop.set_num_threads(1)
    for _, run in kernels():
        run()


def count(isa: str) -> Counts:
    """Return each kernel's instructions an element, for an instruction set."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "callgrind")
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            *(f"--toggle-collect={entry}" for entry in ENTRIES),
            *(f"--dump-after={entry}" for entry in ENTRIES),
            *(sys.executable, "-m", "bench.instructions", "--drive"),
        ]
        # Other threads would confuse what --toggle-collect switches.
        alone = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[1],
            env=os.environ | alone | {"FASTDROP_ISA": isa, "FASTDROP_BACKEND": "cython"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
        names = [name for name, _ in kernels()]
        # One file for each time an entry was left, numbered from 1.
        totals = [total(out.with_name(f"{out.name}.{i + 1}")) for i in range(len(names))]
    return {name: round(n / ELEMENTS, 4) for name, n in zip(names, totals, strict=True)}


def total(dump: Path) -> int:
    """Return the instructions that a callgrind file accounts for."""
    found = re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE)
    if not found or found[1] == "0":
        sys.exit(f"callgrind counted nothing in {ENTRIES}: are the extension's symbols stripped?")
    return int(found[1])


def compiler() -> str:
    """Return the compiler's version, as it wrote it into the extension."""
    pattern = rb"(?:GCC: \([^)]*\)|clang version) \d+(?:\.\d+)*"
    found = set(re.findall(pattern, Path(core.__file__).read_bytes()))
    return ", ".join(sorted(name.decode() for name in found)) or "an unnamed compiler"


def check(isa: str, before: Counts, now: Counts) -> list[str]:
    """Print counts beside the committed ones; return what takes more than before."""
    grown = []
    print(f"\n{isa + ', instructions an element':<40}{'committed':>10}{'now':>10}")
    for name, n in now.items():
        if name not in before:
            print(f"{name:<40}{'-':>10}{n:>10.3f}  not committed: run with --update")
            grown.append(f"{isa}: {name}")
            continue
        change = n / before[name] - 1
        said = f"{change:+.1%}" if abs(change) > TOLERANCE else ""
        print(f"{name:<40}{before[name]:>10.3f}{n:>10.3f}  {said}".rstrip())
        if change > TOLERANCE:
            grown.append(f"{isa}: {name}")
    return grown


def missing() -> str | None:
    """Return why nothing can be counted here, if so."""
    if core is None:
        return "the extension is not built"
    return None if shutil.which("valgrind") else "valgrind is not installed"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="rewrite this compiler's counts")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        drive()
        return
    why = missing()
    if why:
        message = f"no instructions were counted: {why}"
        if os.environ.get("CI") == "true":
            sys.exit(message)
        print(message)
        return

    committed = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    key = compiler()
    if key not in committed and not args.update:
        print(f"no counts for {key}, only for {sorted(committed)}: nothing was checked")
        return
    isas = [isa for isa in core.available_isas() if isa not in UNKNOWN_TO_VALGRIND]
    now = {isa: count(isa) for isa in isas}
    grown = [
        name for isa in isas for name in check(isa, committed.get(key, {}).get(isa, {}), now[isa])
    ]
    if args.update:
        committed[key] = now
        COUNTS.write_text(json.dumps(committed, indent=2, sort_keys=True) + "\n")
        print(f"\nwrote the counts for {key}")
    elif grown:
        sys.exit(f"\nmore than {TOLERANCE:.0%} above the committed counts: {'; '.join(grown)}")


if __name__ == "__main__":
    main()
