"""Builds the extension: the kernels once per instruction set, the rest once.

fastdrop runs on numba where the extension is missing, so a compiler that is missing or fails
does not fail the install. FASTDROP_KERNELS in the environment says otherwise:

    optional   the default
    required   a build without the extension fails: for wheels that go to others
    none       no extension is tried: the default on Windows, whose MSVC has no vector types
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

HERE = Path("fastdrop/_cy")
# Compiled for each instruction set, the longest first, but for MASKS those that differ in the
# processor's AES alone have another one's; and what is compiled once.
MASKS = "kernels/masks.c"
KERNELS = ["kernels/apply.c", MASKS, "kernels/kernels.c"]
SOURCES = sorted({str(file.relative_to(HERE)) for file in HERE.glob("*/*.c")} - {*KERNELS})
HEADERS = sorted(str(file) for pattern in ("*.h", "*.def") for file in HERE.rglob(pattern))

# No contraction: a fused multiply-add would round differently from one
# instruction set to the next. No trapping math: lets comparisons vectorise. No
# debugging information, which Python's own flags ask for: 20 MB, and a third of the time.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-trapping-math", "-Wno-psabi", "-g0"]
MORE_FLAGS = os.environ.get("FASTDROP_CFLAGS", "").split()  # sanitizers, for instance

AVX2 = ["-mavx2", "-mbmi", "-mbmi2", "-mpopcnt", "-mf16c", "-maes"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512ifma", "-mvaes"]
X86 = {
    "aes": ["-maes"],
    "avx2": AVX2,
    "vaes": [*AVX2, "-mvaes"],
    "avx512": [*AVX512, "-mprefer-vector-width=512"],
}
ARM64 = {"aes": ["-march=armv8-a+crypto"]}
BASES = {"aes": "baseline", "vaes": "avx2"}  # the sets whose kernels these have, MASKS excepted


def instruction_sets() -> dict[str, list[str]]:
    """Return the instruction sets to compile kernels for, and their compiler flags."""
    # Code may be built for another processor than this one's, and on macOS for two at once.
    named = re.findall(r"-arch\s+(\S+)", os.environ.get("ARCHFLAGS", ""))
    processors = set(named) or {sysconfig.get_platform().rsplit("-", 1)[-1]}
    mac = sys.platform == "darwin"
    sets: dict[str, list[str]] = {}
    if processors & {"x86_64", "amd64", "universal2"}:
        sets = X86
    elif "aarch64" in processors and not mac:  # Apple's processors have AES in the baseline
        sets = ARM64
    if mac:  # the other processor's compiler refuses these flags
        sets = {
            isa: [word for flag in flags for word in ("-Xarch_x86_64", flag)]
            for isa, flags in sets.items()
        }
    return {"baseline": [], **sets}


class Unit(NamedTuple):
    """A file to compile, and what for."""

    source: str
    isa: str = ""  # the instruction set it is compiled for; none: it is compiled once
    flags: Sequence[str] = ()

    @property
    def macros(self) -> list[tuple[str, str]]:
        base = BASES.get(self.isa, self.isa)
        return [("DROP_ISA", self.isa), ("DROP_BASE", base)] if self.isa else []


def units(sets: dict[str, list[str]] | None = None) -> list[Unit]:
    """Return what to compile beside _core.pyx, what takes longest first."""
    sets = instruction_sets() if sets is None else sets
    widest_first = list(reversed(sets.items()))
    kernels = [
        Unit(str(HERE / name), *isa)
        for name in KERNELS
        for isa in widest_first
        if name == MASKS or isa[0] not in BASES
    ]
    return [*kernels, *(Unit(str(HERE / name)) for name in SOURCES)]


class BuildKernels(build_ext):
    """Compiles all files in threads, the kernels once for each instruction set, and links them."""

    def build_extension(self, ext: Extension) -> None:
        ext.depends.append(self.write_settings())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                objects = pool.map(lambda unit: self.compile(ext, unit), units())
                # Cython has translated its file before those threads are done.
                core = self.compile(ext, Unit(translated(ext).sources[0]))
                ext.extra_objects = [core, *objects]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        ext.sources = []  # all that is left to do is to link, if an object is new
        ext.depends += ext.extra_objects
        super().build_extension(ext)

    def write_settings(self) -> str:
        """Return the name of a file that is as new as the environment's settings are."""
        file = Path(self.build_temp, "settings")
        names = ("CC", "CFLAGS", "CPPFLAGS", "ARCHFLAGS", "FASTDROP_CFLAGS")
        settings = repr([os.environ.get(name) for name in names])
        if not file.exists() or file.read_text() != settings:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(settings)
        return str(file)

    def compile(self, ext: Extension, unit: Unit) -> str:
        """Return the object file of a unit; one that is newer than all it is made of is kept."""
        folder = os.path.join(self.build_temp, unit.isa)
        [target] = self.compiler.object_filenames([unit.source], output_dir=folder)
        if self.force or newer_group([unit.source, *ext.depends], target, "newer"):
            self.compiler.compile(
                [unit.source],
                output_dir=folder,
                macros=[*ext.define_macros, *unit.macros],
                include_dirs=ext.include_dirs,
                extra_postargs=[*ext.extra_compile_args, *unit.flags],
            )
        return str(target)

    def run(self) -> None:
        super().run()
        # `python -m fastdrop` in a checkout imports the checkout: let it find the kernels too.
        if os.access(HERE, os.W_OK):
            self.copy_extensions_to_source()


def extension() -> Extension:
    import numpy as np

    return Extension(
        "fastdrop._cy._core",
        sources=[str(HERE / "_core.pyx")],
        depends=["setup.py", str(HERE / "_core.pxd"), *HEADERS],
        include_dirs=[str(HERE), np.get_include()],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),  # that of the oldest NumPy
        ],
        extra_compile_args=[*FLAGS, *MORE_FLAGS],
        extra_link_args=["-pthread", *MORE_FLAGS],
    )


def translated(ext: Extension) -> Extension:
    """Return the extension with Cython's C file in place of the .pyx."""
    from Cython.Build import cythonize

    return cythonize([ext], language_level=3)[0]


def settings() -> dict[str, Any]:
    """Return what `setup` is told."""
    kernels = os.environ.get("FASTDROP_KERNELS", "none" if os.name == "nt" else "optional")
    if kernels == "none":
        # Tagged for this platform all the same: as a wheel for any, pip would
        # take it wherever there is no other, instead of building the kernels.
        return {"options": {"bdist_wheel": {"plat_name": sysconfig.get_platform()}}}
    if kernels not in ("optional", "required"):
        raise ValueError(
            f"FASTDROP_KERNELS must be optional, required or none, but got {kernels!r}"
        )
    core = extension()
    core.optional = kernels == "optional"
    return {"ext_modules": [core], "cmdclass": {"build_ext": BuildKernels}}


if __name__ == "__main__":
    setup(**settings())
