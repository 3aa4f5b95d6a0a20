"""Drop probabilities that change during training: curriculum and early dropout.

A layer's `p` may be assigned at any time, so a schedule is any callable that
takes a step and returns a probability.

    python examples/schedules.py

References: P. Morerio et al., "Curriculum dropout", ICCV 2017, arXiv:1703.06229;
Z. Liu et al., "Dropout reduces underfitting", ICML 2023, arXiv:2303.01500.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastdrop


@dataclass(frozen=True)
class LinearSchedule:
    """From `first` at step 0 to `last` at step `steps`, and `last` after that."""

    first: float
    last: float
    steps: int

    def __call__(self, step: int) -> float:
        """Return the probability at a step."""
        share = min(step / self.steps, 1.0)
        return self.first + share * (self.last - self.first)


def curriculum(step: int) -> float:
    """Return a probability that rises from 0 to 0.5: easy tasks first."""
    return 0.5 * (1 - math.exp(-step / 25))


early = LinearSchedule(first=0.3, last=0.0, steps=50)  # against underfitting: only at first


def dropped(schedule: Callable[[int], float], steps: int = 100) -> list[float]:
    """Return which share of elements each step's mask drops."""
    layer, x = fastdrop.Dropout(rng=0), np.ones(10_000, np.float32)
    shares = []
    for step in range(steps):
        layer.p = schedule(step)
        shares.append(float((layer(x) == 0).mean()))
    return shares


def main() -> None:
    for name, schedule in (("curriculum", curriculum), ("early", early)):
        print(name, " ".join(f"{share:.2f}" for share in dropped(schedule)[::20]))


if __name__ == "__main__":
    main()
