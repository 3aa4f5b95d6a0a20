"""The demo: a network with more weights than training images, with and without dropout."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits  # scikit-learn brings it
from tqdm import tqdm

from ..rng import make_rng
from .mlp import MLP, Floats, Labels
from .plots import plot_demo

# Far fewer images than weights (85 thousand): the network can memorise the training
# set. That causes the gap between training and test scores that dropout reduces.
TRAINING_IMAGES: Final = 1000
WIDTHS: Final = (64, 256, 256, 10)
BATCH: Final = 50
LEARNING_RATE: Final = 0.02
MOMENTUM: Final = 0.9

Scores = NDArray[np.float64]


def run(args: argparse.Namespace) -> None:
    """Train a pair of networks for each seed; print their scores and save a plot."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    print(
        f"digits: {TRAINING_IMAGES} training images, {len(labels) - TRAINING_IMAGES} test images; "
        f"network {'-'.join(map(str, WIDTHS))}, {args.epochs} epochs\n"
        f"dropout of hidden units: p = {args.p:g}, rng {args.rng}, "
        f"seeds {' '.join(map(str, args.seeds))}",
        flush=True,
    )
    scores = np.empty((2, len(args.seeds), args.epochs + 1, 2, 2))
    bar = tqdm(total=2 * len(args.seeds) * args.epochs, unit="epoch", leave=False)
    # On a busy machine, several BLAS threads take ten times as long as one for such small
    # matrices, because they wait for each other.
    with bar, threadpool_limits(1, user_api="blas"):
        for row, p in enumerate((0.0, args.p)):
            for column, seed in enumerate(args.seeds):
                scores[row, column] = train(
                    pixels, labels, p, args.rng, seed, args.epochs, lambda: bar.update()
                )
    print(table(scores[:, :, -1]))
    plot_demo(scores, args.p, args.rng, args.plot)
    print(f"plot saved to {args.plot.resolve()}")


def train(
    pixels: Floats,
    labels: Labels,
    p: float,
    rng: str,
    seed: int,
    epochs: int,
    on_epoch: Callable[[], Any],
) -> Scores:
    """Train one network.

    Two runs with one seed differ only in `p`: training set, first weights and batches
    come from one generator, and the masks from another.

    Returns
    -------
    ndarray of float64, shape (epochs + 1, 2, 2)
        Axes: epoch (0 is before training), training or test set, and accuracy or
        cross-entropy. All are measured in eval mode.
    """
    generator = np.random.default_rng(seed)
    training, test = np.split(generator.permutation(len(labels)), [TRAINING_IMAGES])
    network = MLP(WIDTHS, p, generator, make_rng(rng, seed))

    def score() -> list[tuple[float, float]]:
        return [network.score(pixels[part], labels[part]) for part in (training, test)]

    scores = [score()]
    for _ in range(epochs):
        order = generator.permutation(training)
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            network.learn(pixels[batch], labels[batch], LEARNING_RATE, MOMENTUM)
        scores.append(score())
        on_epoch()
    return np.array(scores)


def gaps(scores: Scores) -> Scores:
    """Return how much better the scores of the training set are than those of the test set.

    Parameters
    ----------
    scores : ndarray, shape (..., 2, 2)
        Last axes: training or test set, and accuracy or cross-entropy.

    Returns
    -------
    ndarray, shape (..., 2)
        The gap in accuracy and in cross-entropy: positive if the network overfits.
    """
    train, test = scores[..., 0, :], scores[..., 1, :]
    return (train - test) * [1, -1]


def table(scores: Scores) -> str:
    """Return final scores, shape (2, seeds, 2, 2), as a table of means over the seeds."""
    lines = [
        f"{'':<18}{'accuracy':^24}  {'cross-entropy':^24}",
        f"{'mean over seeds':<18}" + "  ".join(["   train    test     gap"] * 2),
    ]
    gap = gaps(scores)
    means, mean_gaps = scores.mean(axis=1), gap.mean(axis=1)
    for row, name in enumerate(("without dropout", "with dropout")):
        accuracy, loss = (
            f"{means[row, 0, i]:8{form}}{means[row, 1, i]:8{form}}{mean_gaps[row, i]:8{form}}"
            for i, form in ((0, ".2%"), (1, ".4f"))
        )
        lines.append(f"{name:<18}{accuracy}  {loss}")
    accuracy_wins, loss_wins = np.sum(gap[1] < gap[0], axis=0)
    lines.append(
        f"smaller gap with dropout: accuracy {accuracy_wins} of {scores.shape[1]} seeds, "
        f"cross-entropy {loss_wins} of {scores.shape[1]}"
    )
    return "\n".join(lines)
