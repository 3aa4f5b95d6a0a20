"""Build keptmean.c in place: python setup.py build_ext --inplace."""

from setuptools import Extension, setup

import fastdrop

setup(
    name="keptmean",
    ext_modules=[Extension("keptmean", ["keptmean.c"], include_dirs=[fastdrop.get_include()])],
)
