"""The plots of the demo and the bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: no display, no global state
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

BLUE, LIGHT_BLUE, ORANGE, GREEN, GREY = "#0b559f", "#5aa2d6", "#d95f02", "#2a9d6f", "#777777"

# Styles of the bench's columns, by the start of their names, because the number of
# threads in a name is not known here. Columns without a style are not drawn.
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "fastdrop 1 ": {"color": LIGHT_BLUE, "marker": "o"},
    "fastdrop": {"color": BLUE, "marker": "o"},
    "NumPy": {"color": GREEN, "marker": "s"},
    "torch": {"color": ORANGE, "marker": "^"},
    "np. copyto": {"color": GREY, "linestyle": "--"},
}


def plot_demo(scores: NDArray[np.float64], p: float, rng: str, file: Path) -> None:
    """Save accuracy and cross-entropy by epoch, without and with dropout.

    Parameters
    ----------
    scores : ndarray, shape (2, seeds, epochs + 1, 2, 2)
        Axes: run (without, with), seed, epoch, training or test set, and measure.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for measure, axes in enumerate((left, right)):
        for run, (name, color) in enumerate((("without", ORANGE), ("with", BLUE))):
            for part, (split, line) in enumerate((("training", "--"), ("test", "-"))):
                curves = scores[run, :, :, part, measure]
                epochs = np.arange(curves.shape[1])
                axes.plot(
                    epochs, curves.mean(axis=0), line, color=color, label=f"{split}, {name} dropout"
                )
                axes.fill_between(
                    epochs, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.1, lw=0
                )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        _tidy(axes)
    # Leave out the first epochs, unless there are no others.
    worst_accuracy, worst_loss = scores[:, :, -1, :, 0].min(), scores[:, :, -1, :, 1].max()
    left.set(ylabel="accuracy", ylim=(min(0.9, worst_accuracy - 0.02), 1.005))
    left.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    right.set(ylabel="cross-entropy", ylim=(0, max(0.4, worst_loss * 1.1)))
    seeds = scores.shape[1]
    figure.suptitle(
        f"Digits with dropout of p = {p:g} and without ({rng}; "
        + ("one seed)" if seeds == 1 else f"mean and range of {seeds} seeds)")
    )
    figure.savefig(file, dpi=150)


def plot_bench(
    rows: dict[int, dict[str, float]], itemsize: int, title: str, caption: str, file: Path
) -> None:
    """Save a plot of throughput, bytes read and written per second, against array size.

    Parameters
    ----------
    rows : dict
        Number of elements: column: nanoseconds per element, NaN for none.
    """
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(rows)
    for column in rows[sizes[0]]:
        name = column.replace("\n", " ")
        style = _style(name)
        if style is None:
            continue
        rates = [2 * itemsize / rows[n][column] for n in sizes]
        label = "np.copyto, 1 thread: the ceiling" if name == "np. copyto" else name
        axes.loglog(sizes, rates, label=label, markersize=5, **style)
    axes.set(xlabel="elements", ylabel="GB/s (bytes read + written)", title=title)
    figure.legend(frameon=False, loc="outside right upper")  # where it covers no curve
    _tidy(axes)
    figure.supxlabel(caption, fontsize=7, color=GREY)
    figure.savefig(file, dpi=150)


def _style(name: str) -> dict[str, Any] | None:
    if name == "fastdrop new array":
        return None
    return next((s for start, s in _STYLES.items() if name.startswith(start)), None)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
