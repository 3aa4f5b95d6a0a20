"""What compiled code depends on, as one word that kernels carry in their names.

Numba's cache notices when the file of a kernel changes, and no other. But a kernel is made from
what its module imports too: constants of the mask's format, formulas, other modules' functions.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

_PACKAGE: Final = __name__.partition(".")[0]
_PLAIN: Final = (bool, int, float, str, bytes)


@cache
def digest(name: str) -> str:
    """Return a hash of a loaded module of this package, and of all that it imports from there.

    Its files count, and the constants' values: a program may have changed them.
    """
    found = hashlib.sha256()
    for module in imported(name):
        found.update(_source(module))
        found.update(_constants(sys.modules[module]).encode())
    return found.hexdigest()[:16]


def imported(name: str) -> list[str]:
    """Return a module of this package, and those of it that this one imports, directly or not."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {other for one in new for other in _imports(one)} - found
    return sorted(found)


@cache
def _source(name: str) -> bytes:
    return Path(str(sys.modules[name].__file__)).read_bytes()


@cache
def _imports(name: str) -> set[str]:
    """Return the modules of this package that a module's import statements name."""
    found = set()
    for statement in _statements(ast.parse(_source(name)).body):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            relative = "." * statement.level + (statement.module or "")
            base = resolve_name(relative, sys.modules[name].__package__)
            whole = {f"{base}.{alias.name}" for alias in statement.names}
            # What is no module of its own is a name in one.
            found |= {one if one in sys.modules else base for one in whole}
    # What has not been loaded has no part in what is compiled.
    return {one for one in found if one.partition(".")[0] == _PACKAGE and one in sys.modules}


def _statements(body: list[Any]) -> Iterator[Any]:
    """Yield the statements that run when a module is imported."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            for part in ("body", "orelse", "handlers", "finalbody"):
                yield from _statements(getattr(statement, part, []))


def _constants(module: ModuleType) -> str:
    """Return the names and values of a module's constants."""
    values = {key: value for key, value in vars(module).items() if key == key.upper()}
    return str({key: _plain(value) for key, value in values.items()})


def _plain(value: Any) -> Any:
    """Return a constant in Python's own numbers, or None if it is something else."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.str, value.tolist()
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if isinstance(key, _PLAIN)}
    return value if isinstance(value, _PLAIN) else None
