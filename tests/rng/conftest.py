"""These tests run on the C kernels of every instruction set."""

from isas import backend

__all__ = ["backend"]
