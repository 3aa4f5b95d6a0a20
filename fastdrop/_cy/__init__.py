"""The compiled kernels, if they could be built, for the instruction set that is forced or best."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

core: Any  # the extension module, or None where there was no C compiler
try:
    core = import_module("._core", __name__)
except ImportError:
    core = None

_forced = os.environ.get("FASTDROP_ISA")
if core is not None and _forced:
    core.choose_isa(_forced)
