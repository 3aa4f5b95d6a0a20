"""Guard that noise cannot blur: ``python -m bench.instructions`` counts instructions an element.

Valgrind's callgrind runs each kernel once, on one thread, and counts inside the C code only. The
counts depend on the compiler, so they are kept for each; Valgrind 3.19 knows neither AVX-512 nor
AES on whole vectors.
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
from fastdrop.backends import Draw
from fastdrop.mask_format import rate

from .committed import grew, heading
from .measure import dtype

COUNTS: Final = Path(__file__).with_name("instructions.json")
TOLERANCE: Final = 0.03
ELEMENTS: Final = 1 << 18
P: Final = (0.5, 0.1)
UNKNOWN_TO_VALGRIND: Final = {"avx512", "vaes"}

Kernels = dict[str, Callable[[], Any]]
Counts = dict[str, float]  # a kernel's name: instructions an element


def applying() -> Kernels:
    """Return kernels that apply a mask: float32 for each generator, and other dtypes."""
    variants = [("float32", rng) for rng in ("ARS4x32", "Philox4x32", "PCG64", "Philox")]
    variants += [(name, "ARS4x32") for name in ("float16", "bfloat16", "float64")]
    return {
        f"{name}, {rng.lower()}, p = {p}": apply(name, rng, p) for name, rng in variants for p in P
    }


def packing() -> Kernels:
    """Return kernels that make a mask, and nothing else."""
    return {f"mask only, ars4x32, p = {p}": mask_only(p) for p in P}


# The C functions that hold all the work, and what enters them, once each.
ENTRIES: Final = {"drop_evaluate": applying, "drop_bits": packing}


def apply(name: str, rng: str, p: float) -> Callable[[], Any]:
    x, y = aligned(name), aligned(name)
    generator = getattr(fastdrop, rng)(2014)
    return lambda: fastdrop.dropout(x, p, rng=generator, out=y)


def mask_only(p: float) -> Callable[[], Any]:
    mask = fastdrop.Mask(Draw(*fastdrop.ARS4x32(2014).reserve(0), rate(p)), (ELEMENTS,))
    return mask.to_packed


def aligned(name: str) -> np.ndarray[Any, Any]:
    """Return zeros that start at a cache line: loops' heads and tails are counted too."""
    memory = np.zeros(ELEMENTS * dtype(name).itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + ELEMENTS * dtype(name).itemsize].view(dtype(name))


def drive(entry: str) -> None:
    """Run an entry's kernels: what Valgrind watches."""
    fastdrop.set_num_threads(1)
    for run in ENTRIES[entry]().values():
        run()


def count(isa: str) -> Counts:
    """Return each kernel's instructions an element, for an instruction set."""
    return {name: n for entry in ENTRIES for name, n in count_entry(isa, entry).items()}


def count_entry(isa: str, entry: str) -> Counts:
    # An entry at a time: callgrind takes --toggle-collect and --dump-after for one function,
    # and with a second it counts nothing.
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "callgrind")
        watch = [f"--toggle-collect={entry}", f"--dump-after={entry}"]
        driver = [sys.executable, "-m", "bench.instructions", "--drive", entry]
        # Other threads would confuse what --toggle-collect switches.
        alone = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *watch, *driver],
            cwd=Path(__file__).parents[1],
            env=os.environ | alone | {"FASTDROP_ISA": isa, "FASTDROP_BACKEND": "cython"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"callgrind failed on {entry} with {isa}:\n{done.stderr}")
        # A file for each time the entry was left, numbered from 1.
        return {
            name: round(total(out.with_name(f"{out.name}.{i}")) / ELEMENTS, 4)
            for i, name in enumerate(ENTRIES[entry](), start=1)
        }


def total(dump: Path) -> int:
    """Return the instructions that a callgrind file accounts for."""
    found = re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE)
    if not found or found[1] == "0":
        sys.exit("callgrind counted nothing: are the extension's symbols stripped?")
    return int(found[1])


def compiler() -> str:
    """Return the compiler's version, as it wrote it into the extension."""
    pattern = rb"(?:GCC: \([^)]*\)|clang version) \d+(?:\.\d+)*"
    found = set(re.findall(pattern, Path(core.__file__).read_bytes()))
    return ", ".join(sorted(name.decode() for name in found)) or "an unnamed compiler"


def check(isa: str, before: Counts, now: Counts) -> list[str]:
    """Print counts beside the committed ones; return what takes more than before."""
    heading(f"\n{isa}, instructions an element")
    return [
        f"{isa}: {name}" for name, n in now.items() if grew(name, before.get(name), n, TOLERANCE)
    ]


def missing() -> str | None:
    """Return why nothing can be counted here, if so."""
    if core is None:
        return "the extension is not built"
    return None if shutil.which("valgrind") else "valgrind is not installed"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="rewrite this compiler's counts")
    parser.add_argument("--drive", choices=ENTRIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        drive(args.drive)
        return
    why = missing()
    if why:
        message = f"no instructions were counted: {why}"
        if os.environ.get("CI") == "true":
            sys.exit(message)
        print(message)
        return

    counts = json.loads(COUNTS.read_text())
    key = compiler()
    if key not in counts and not args.update:
        print(f"no counts for {key}, only for {sorted(counts)}: nothing was checked")
        return
    isas = [isa for isa in core.available_isas() if isa not in UNKNOWN_TO_VALGRIND]
    now = {isa: count(isa) for isa in isas}
    grown = [
        name for isa in isas for name in check(isa, counts.get(key, {}).get(isa, {}), now[isa])
    ]
    if args.update:
        counts[key] = now
        COUNTS.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
        print(f"\nwrote the counts for {key}")
    elif grown:
        sys.exit(f"\nmore than {TOLERANCE:.0%} above the committed counts: {'; '.join(grown)}")


if __name__ == "__main__":
    main()
