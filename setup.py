"""Builds the extension: kernels.c once per instruction set, the rest once."""

import os
import platform
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path("fastdrop/_cy")
X86 = platform.machine().lower() in ("x86_64", "amd64")
X86_MACRO = [("DROP_X86", None)] if X86 else []

# No contraction: a fused multiply-add would round differently from one
# instruction set to the next. No trapping math: lets comparisons vectorise.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-trapping-math", "-Wno-psabi"]
MORE_FLAGS = os.environ.get("FASTDROP_CFLAGS", "").split()  # sanitizers, for instance

AVX2 = ["-mavx2", "-mbmi", "-mbmi2", "-mpopcnt", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512ifma"]
INSTRUCTION_SETS = {"baseline": []}
if X86:
    INSTRUCTION_SETS |= {"avx2": AVX2, "avx512": [*AVX512, "-mprefer-vector-width=512"]}


class BuildKernels(build_ext):
    """Compiles kernels.c once for each instruction set, and links them all."""

    def build_extension(self, ext: Extension) -> None:
        kernels = str(HERE / "kernels.c")
        extra = ext.extra_compile_args
        ext.extra_objects = [
            name
            for isa, flags in INSTRUCTION_SETS.items()
            for name in self.compiler.compile(
                [kernels],
                output_dir=os.path.join(self.build_temp, isa),
                macros=[("DROP_ISA", isa)],
                include_dirs=[str(HERE)],
                extra_postargs=[*extra, *flags],
                depends=ext.depends,
            )
        ]
        super().build_extension(ext)

    def run(self) -> None:
        super().run()
        # `python -m fastdrop` in a checkout imports the checkout: let it find the kernels too.
        if os.access(HERE, os.W_OK):
            self.copy_extensions_to_source()


def extension() -> Extension:
    return Extension(
        "fastdrop._cy._core",
        sources=[
            str(HERE / name)
            for name in ("_core.pyx", "walk.c", "evaluate.c", "noise.c", "pool.c", "isa.c")
        ],
        depends=[str(p) for p in HERE.glob("*.h")] + [str(HERE / "kernels.c")],
        include_dirs=[str(HERE), np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), *X86_MACRO],
        extra_compile_args=[*FLAGS, *MORE_FLAGS],
        extra_link_args=["-pthread", *MORE_FLAGS],
    )


[core] = cythonize([extension()], language_level=3)
core.optional = True  # cythonize forgets it. Without a C compiler numba takes over.

setup(
    ext_modules=[core],
    cmdclass={"build_ext": BuildKernels},
)
