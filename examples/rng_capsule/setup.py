"""Build threefry.c in place: python setup.py build_ext --inplace."""

from setuptools import Extension, setup

import fastdrop

setup(
    name="threefry",
    ext_modules=[Extension("threefry", ["threefry.c"], include_dirs=[fastdrop.get_include()])],
)
