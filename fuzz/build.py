"""Compiles the kernels and the programs that try them, with setup.py's own flags."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
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


@dataclass(frozen=True)
class Finder:
    """A compiler, and what it is told for finding faults in the kernels."""

    compiler: str = "gcc"
    flags: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()  # of the target


FRAMES = ("-g", "-O1", "-fno-omit-frame-pointer")
ASAN = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FINDERS = {
    "random": Finder(),
    "asan": Finder(flags=(*FRAMES, *ASAN), macros=("-DFUZZ_ASAN",)),
    "tsan": Finder(flags=(*FRAMES, "-fsanitize=thread")),
    "valgrind": Finder(flags=FRAMES),
    "libfuzzer": Finder("clang", (*FRAMES, *ASAN, "-fsanitize=fuzzer"), ("-DFUZZ_ASAN",)),
}


@cache
def settings() -> dict[str, Any]:
    """Return what setup.py defines, without running a command of it."""
    return runpy.run_path(str(ROOT / "setup.py"))


@cache
def objects(finder: str) -> list[str]:
    """Compile for a finder what all its programs have, and return the object files."""
    flags = FINDERS[finder].flags
    units = [
        (KERNELS / "kernels.c", f"kernels_{isa}.o", (*flags, *more, f"-DDROP_ISA={isa}"))
        for isa, more in settings()["instruction_sets"]().items()
    ]
    units += [
        (KERNELS / name, f"{Path(name).stem}.o", (*flags, "-Dsysconf=fuzz_sysconf"))
        for name in settings()["SOURCES"]
    ]
    # Finders look at the kernels; the target and the oracle run at full speed beside them.
    units += [(HERE / "target.c", "target.o", FINDERS[finder].macros)]
    units += [(HERE / "oracle.c", "oracle.o", ())]
    folder = BUILD / finder
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(
            pool.map(lambda unit: compiled(finder, unit[0], folder / unit[1], unit[2]), units)
        )


def compiled(finder: str, source: Path, to: Path, flags: Sequence[str]) -> str:
    """Compile a file, and return the object file's path."""
    warnings = ("-Wall", "-Wextra")
    command = [FINDERS[finder].compiler, *settings()["FLAGS"], *warnings, *flags]
    run([*command, f"-I{KERNELS}", f"-I{HERE}", "-c", source, "-o", to])
    return str(to)


def program(finder: str, main: Sequence[str], *link: str) -> Path:
    """Build a program of the kernels for a finder, and return its path."""
    compiler, flags = FINDERS[finder].compiler, FINDERS[finder].flags
    path = BUILD / finder / (Path(main[0]).stem if main else "target")
    linked, own = [*objects(finder)], [HERE / name for name in main]
    linked += [compiled(finder, file, path.with_name(f"{file.stem}.o"), flags) for file in own]
    run([compiler, *flags, *linked, *link, "-pthread", "-lm", "-o", path])
    return path


def package(name: str, flags: Sequence[str], directives: str = "") -> Path:
    """Build the extension with more flags in a copy of the package, and return the copy's folder.

    A build in place would replace the extension that everything else here imports.
    """
    folder = BUILD / name / "package"
    shutil.rmtree(folder, ignore_errors=True)
    skipped = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "fastdrop", folder / "fastdrop", ignore=skipped)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    source = folder / "fastdrop/_cy/_core.pyx"
    source.write_text(directives + source.read_text())
    environment = os.environ | {"CC": "gcc", "FASTDROP_CFLAGS": " ".join(flags)}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    run(command, cwd=folder, env=environment)
    return folder


def run(command: Sequence[Any], **options: Any) -> None:
    """Run a command; exit with its output if it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, **options)
    if result.returncode != 0:
        print(*words, result.stdout, result.stderr, sep="\n", file=sys.stderr)
        sys.exit(f"{words[0]} failed")
