"""The backend that Numba compiles: LLVM vectors, steps on them, kernels, and what calls those."""

from .backend import NumbaBackend

__all__ = ["NumbaBackend"]
