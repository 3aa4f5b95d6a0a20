"""Compiles the kernels and the programs that try them, with setup.py's own flags."""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HERE = ROOT / "fuzz"
KERNELS = ROOT / "fastdrop" / "_cy"
BUILD = ROOT / "build" / "fuzz"
SYSCONF = ("sysconf", "fuzz_sysconf")  # sysconf.c: caches that small arrays are too large for
CLANG = next(filter(shutil.which, ("clang-19", "clang-16", "clang-14")), "clang")


@dataclass(frozen=True)
class Finder:
    """A compiler, and what it is told for finding faults in the kernels."""

    compiler: str = "gcc"
    flags: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()  # of the target


FRAMES = ("-g1", "-O1", "-fno-omit-frame-pointer")
ASAN = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TRACE = ("-O1", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1")
FINDERS = {
    "random": Finder(),
    "asan": Finder(flags=(*FRAMES, *ASAN), macros=("-DFUZZ_ASAN",)),
    "tsan": Finder(flags=(*FRAMES, "-fsanitize=thread")),
    "valgrind": Finder(flags=FRAMES),
    "libfuzzer": Finder(CLANG, (*FRAMES, *ASAN, "-fsanitize=fuzzer"), ("-DFUZZ_ASAN",)),
    "lines": Finder(flags=TRACE),
}


@cache
def settings() -> dict[str, Any]:
    """Return what setup.py defines, without running a command of it."""
    return runpy.run_path(str(ROOT / "setup.py"))


@cache
def objects(finder: str) -> list[str]:
    """Compile the kernels for a finder, and return the object files."""
    flags = FINDERS[finder].flags
    steps = [
        (
            ROOT / unit.source,
            f"{Path(unit.source).stem}_{unit.isa}.o",
            (*flags, *unit.flags, *(f"-D{n}={v}" for n, v in [*unit.macros, SYSCONF])),
        )
        for unit in settings()["units"]()
    ]
    steps.append((HERE / "sysconf.c", "sysconf.o", ()))
    folder = BUILD / finder
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(
            pool.map(lambda step: compiled(finder, step[0], folder / step[1], step[2]), steps)
        )


def compiled(finder: str, source: Path, to: Path, flags: Sequence[str]) -> str:
    """Compile a file, and return the object file's path."""
    command = [FINDERS[finder].compiler, *settings()["FLAGS"], "-fPIC", "-Wall", "-Wextra", *flags]
    run([*command, f"-I{KERNELS}", f"-I{HERE}", "-c", source, "-o", to])
    return str(to)


def program(finder: str, main: Sequence[str], *link: str) -> Path:
    """Build a program of the kernels for a finder, and return its path."""
    compiler, flags, macros = (getattr(FINDERS[finder], n) for n in ("compiler", "flags", "macros"))
    linked, path = [*objects(finder)], BUILD / finder / (Path(main[0]).stem if main else "target")
    # Finders look at the kernels; the target and the oracle run at full speed beside them.
    own = {"target.c": macros, "oracle.c": (), "attention.c": (), **dict.fromkeys(main, flags)}
    for name, more in own.items():
        linked.append(compiled(finder, HERE / name, path.with_name(f"{name}.o"), more))
    run([compiler, *flags, *linked, *link, "-pthread", "-lm", "-o", path])
    return path


def package(finder: str, directives: str = "") -> Path:
    """Build the extension for a finder in a copy of the package, and return the copy's folder.

    A build in place would replace the extension that everything else here imports.
    """
    folder, flags = BUILD / finder / "package", FINDERS[finder].flags
    shutil.rmtree(folder, ignore_errors=True)
    skipped = shutil.ignore_patterns("*.so", "_core.c", "__pycache__")
    shutil.copytree(ROOT / "fastdrop", folder / "fastdrop", ignore=skipped)
    source = folder / "fastdrop/_cy/_core.pyx"
    source.write_text(directives + source.read_text())
    with contextlib.chdir(folder):
        core = settings()["translated"](settings()["extension"]())
    includes = [*core.include_dirs, sysconfig.get_paths()["include"]]
    more = [f"-D{name}={value}" for name, value in core.define_macros]
    more += [f"-I{folder / path}" for path in includes]
    unit = compiled(finder, folder / core.sources[0], folder / "_core.o", [*flags, *more])
    to = source.with_name("_core" + sysconfig.get_config_var("EXT_SUFFIX"))
    run([FINDERS[finder].compiler, *flags, "-shared", *objects(finder), unit, "-pthread", "-o", to])
    return folder


def run(command: Sequence[Any], **options: Any) -> None:
    """Run a command; exit with its output if it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, **options)
    if result.returncode != 0:
        print(*words, result.stdout, result.stderr, sep="\n", file=sys.stderr)
        sys.exit(f"{words[0]} failed")
