"""Monte-Carlo dropout: estimate how certain a network is of its answers.

A network is fitted to points between -1 and 1 and evaluated beyond them too. Its answers
under many masks agree where it has seen data, and differ where it has not.

    python examples/mc_dropout.py [picture.png]

Reference: Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation", ICML
2016, arXiv:1506.02142.
"""

from __future__ import annotations

import sys

import numpy as np

import fastdrop


def features(x: np.ndarray) -> np.ndarray:
    """Return random rectified features of points on a line."""
    rng = np.random.default_rng(3)
    return np.maximum(np.multiply.outer(x, rng.normal(size=300)) + rng.normal(size=300), 0)


def main(picture: str | None = None) -> tuple[float, float]:
    known = np.linspace(-1, 1, 40)
    hidden = features(known)
    weights = hidden.T @ np.linalg.solve(hidden @ hidden.T + 0.1 * np.eye(40), np.sin(3 * known))

    asked = np.linspace(-3, 3, 121)
    answers = fastdrop.mc_dropout(features(asked), samples=200, p=0.1, rng=0) @ weights
    mean, spread = answers.mean(axis=0), answers.std(axis=0)
    inside = np.abs(asked) <= 1
    near, far = float(spread[inside].mean()), float(spread[~inside].mean())
    print(f"spread inside the data {near:.2f}, beyond {far:.2f}")
    if picture:
        plot(picture, asked, mean, spread, known)
    return near, far


def plot(
    picture: str, asked: np.ndarray, mean: np.ndarray, spread: np.ndarray, known: np.ndarray
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    axes.fill_between(asked, mean - 2 * spread, mean + 2 * spread, alpha=0.3, label="2 deviations")
    axes.plot(asked, mean, label="mean answer")
    axes.plot(known, np.sin(3 * known), ".", label="data")
    axes.legend()
    figure.savefig(picture)


if __name__ == "__main__":
    main(*sys.argv[1:2])
