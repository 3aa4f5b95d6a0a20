"""The command line: its arguments, and their checks before anything runs.

The module and the packages of a subcommand are imported only when it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from .. import __version__, available_backends, available_rngs, show_config
from ..mask_format import rate
from ..rng import default_rng

EXAMPLE = """\
import fastdrop, numpy as np
print(fastdrop.dropout(np.ones((2, 4)), p=0.5))

"""

_LARGEST = 1e9  # elements: some 20 GB
_PLOT_FORMATS = (".png", ".pdf", ".svg")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name. The default is the process's arguments.
    """
    parser = _make_parser()
    args = parser.parse_args(argv)
    if args.command == "demo":
        _require(parser, "demo", {"sklearn": "scikit-learn", "matplotlib": None, "tqdm": None})
        from . import demo

        demo.run(args)
    elif args.command == "bench":
        if args.plot is not None:
            _require(parser, "bench", {"matplotlib": None})
        from . import bench

        bench.run(args)
    elif args.command == "info":
        show_config()
    else:
        parser.print_help()
    return 0


class _ExampleFirst(argparse.ArgumentParser):
    def format_help(self) -> str:
        return EXAMPLE + super().format_help()


def _make_parser() -> argparse.ArgumentParser:
    parser = _ExampleFirst(
        prog="python -m fastdrop",
        description="Dropout for NumPy arrays on CPUs, at the speed of copying the array.",
    )
    parser.add_argument("--version", action="version", version=f"fastdrop {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="{demo,bench,info}", parser_class=argparse.ArgumentParser
    )
    _add_demo(commands.add_parser("demo", help="train on digits with and without dropout"))
    _add_bench(commands.add_parser("bench", help="time dropout beside NumPy and torch"))
    commands.add_parser("info", help="print what really runs here: backend, threads, RNGs")
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a network written in NumPy on scikit-learn's digits, with and without "
        "dropout, and show the gap between training and test accuracy."
    )
    _add_common(parser)
    parser.add_argument(
        "--seeds",
        "--seed",
        type=_natural,
        nargs="+",
        default=[0, 1, 2, 3, 4],
        metavar="N",
        help="one pair of runs each; a seed fixes the training set, the first weights, the order "
        "of the batches and the masks (default: 0 1 2 3 4)",
    )
    parser.add_argument(
        "--epochs", type=_positive, default=40, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--plot",
        type=_plot_file,
        default="fastdrop-demo.png",
        metavar="FILE",
        help="where the plot goes (default: %(default)s)",
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Time dropout in training mode beside the NumPy idiom, np.copyto, np.multiply and, where "
        "installed, torch: nanoseconds an element, medians of interleaved repetitions."
    )
    _add_common(parser)
    parser.add_argument(
        "--sizes",
        type=_size,
        nargs="+",
        metavar="N",
        help="numbers of elements (default: 1e3 to 1e8, where 1e8 takes some 2 GB of memory)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32", "float64"),
        default="float32",
        help="default: %(default)s",
    )
    parser.add_argument("--backend", choices=available_backends(), help="default: the best here")
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads of fastdrop and torch (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="two small sizes, a second in all")
    parser.add_argument(
        "--plot", type=_plot_file, metavar="FILE", help="plot GB/s against size to FILE"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--p", type=_probability, default=0.5, help="drop probability (default: %(default)s)"
    )
    parser.add_argument(
        "--rng",
        choices=available_rngs(),
        default=default_rng().name,
        help="generator of the masks (default: %(default)s)",
    )


def _probability(text: str) -> float:
    try:
        return rate(float(text)).p
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> int:
    """Return a number of elements, which may be written as 1e6."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (1 <= number <= _LARGEST and number.is_integer()):
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 1e9, but got {text!r}")
    return int(number)


def _positive(text: str) -> int:
    return _int_from(1, text)


def _natural(text: str) -> int:
    return _int_from(0, text)


def _int_from(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be an integer of {least} or more, but got {text!r}")
    return number


def _plot_file(text: str) -> Path:
    """Return a path for a plot, checked now and not after a minute of work."""
    path = Path(text)
    if path.suffix.lower() not in _PLOT_FORMATS:
        raise argparse.ArgumentTypeError(
            f"must end in one of {', '.join(_PLOT_FORMATS)}, but got {text!r}"
        )
    target = path if path.exists() else path.parent
    if path.is_dir() or not os.access(target, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be a file that can be written, but got {text!r}")
    return path


def _require(parser: argparse.ArgumentParser, extra: str, packages: dict[str, str | None]) -> None:
    """Exit with the pip command if one of the packages (module: name on PyPI) is missing."""
    missing = [
        project or module
        for module, project in packages.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        parser.exit(2, f"fastdrop: missing {', '.join(missing)}: pip install 'fastdrop[{extra}]'\n")
