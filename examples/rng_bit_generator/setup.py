"""Build xoshiro.pyx in place: python setup.py build_ext --inplace."""

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    name="xoshiro",
    ext_modules=cythonize([Extension("xoshiro", ["xoshiro.pyx"], include_dirs=[np.get_include()])]),
)
