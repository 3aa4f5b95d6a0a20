"""Build rows.pyx in place: python setup.py build_ext --inplace."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastdrop

rows = Extension(
    "rows",
    ["rows.pyx"],
    include_dirs=[fastdrop.get_include()],
    extra_compile_args=["-fopenmp"],
    extra_link_args=["-fopenmp"],
)
setup(name="rows", ext_modules=cythonize([rows]))
