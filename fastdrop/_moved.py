"""Modules under the names they had before they moved: for imports, and for pickles from then."""

from __future__ import annotations

import sys
from typing import Final

# Old name: where its public names are now, both within the package.
MOVED: Final = {
    "array_mask": "masks",
    "family": "",
    "family.alpha": "layers",
    "family.connect": "layers",
    "family.dropblock": "",
    "family.feature": "layers",
    "family.gaussian": "",
    "fused": "functional",
    "layer": "layers",
    "mask": "masks",
    "normal": "_formulas.normal",
    "samples": "masks",
}


def keep_old_names() -> None:
    """Have imports find what has moved: all of it is loaded by now."""
    for old, new in MOVED.items():
        sys.modules[f"fastdrop.{old}"] = sys.modules[f"fastdrop.{new}" if new else "fastdrop"]
