"""These tests run on the C kernels of every instruction set."""

from isas import backend_of_masks as backend

__all__ = ["backend"]
