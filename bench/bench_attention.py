"""Attention with dropout: torch's without dropout, torch's with it, and fastdrop's.

pytest bench/bench_attention.py --import-mode=importlib     in groups, for the regression guard
python bench/bench_attention.py                             time, as a table
python bench/bench_attention.py eager                       separate operations, as a table
python bench/bench_attention.py memory                      memory, as a table
python bench/bench_attention.py picture                     docs/attention.png
python bench/bench_torch.py long                            whole training steps

Batch 2, 8 heads of 64, p = .1, unless the table says otherwise.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import fastdrop.torch
from fastdrop.cli.timing import Statement, medians, threads

P = 0.1
BATCH, HEADS, WIDTH = 2, 8, 64
LENGTHS = [128, 256, 512, 1024, 2048, 4096, 8192]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Attention = Callable[..., torch.Tensor]
SIDES: dict[str, tuple[Attention, float]] = {
    "off": (F.scaled_dot_product_attention, 0.0),
    "torch": (F.scaled_dot_product_attention, P),
    "fastdrop": (fastdrop.torch.functional.scaled_dot_product_attention, P),
}
# Softmax and dropout as operations of their own: a model's "eager" attention.
EAGER: dict[str, Callable[..., torch.Tensor]] = {
    "off": lambda probabilities, p: probabilities,
    "torch": F.dropout,
    "fastdrop": fastdrop.torch.functional.dropout,
}
PICTURE = Path(__file__).parent.parent / "docs" / "attention.png"


def separate(side: str) -> Attention:
    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float, is_causal: bool
    ) -> torch.Tensor:
        scores = q @ k.transpose(-2, -1) / WIDTH**0.5
        return EAGER[side](scores.softmax(-1), P) @ v

    return attention


def call(
    side: str, length: int, dtype: str, causal: bool, backward: bool, is_eager: bool = False
) -> Callable[[], None]:
    function, p = (separate(side), P) if is_eager else SIDES[side]
    shape = BATCH, length, HEADS, WIDTH
    q, k, v, grad = (torch.randn(shape).to(DTYPES[dtype]).transpose(1, 2) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_(backward)

    def run() -> None:
        out = function(q, k, v, dropout_p=p, is_causal=causal)
        if backward:
            torch.autograd.grad(out, (q, k, v), grad)

    return run


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [128, 512, 1024])
@pytest.mark.parametrize("side", SIDES)
def test_attention(benchmark, side, length, causal):
    benchmark.group = f"attention, forward+backward, L={length}, causal={causal}"
    with threads(2):
        benchmark.pedantic(call(side, length, "float32", causal, True), rounds=5, warmup_rounds=1)


def measured(seconds: float, n_threads: int, *what: object) -> dict[str, float]:
    """Return the median seconds of each side, in turn; torch's with dropout only if it fits."""
    sides = [side for side in SIDES if side != "torch" or what[0] <= 4096]
    runs = [Statement(call(side, *what), threads=n_threads) for side in sides]
    return dict(zip(sides, medians(runs, seconds), strict=True))


def times(seconds: float, lengths: list[int], dtypes: list[str], both_threads: list[int]) -> None:
    print("Milliseconds, median, and relative to torch's fused attention without dropout\n")
    print("| dtype | pass | causal | threads | L | off | torch | fastdrop |")
    print("|---|---|---|---|---|---|---|---|")
    cases = product(dtypes, (False, True), (False, True), both_threads, lengths)
    for dtype, backward, causal, n_threads, length in cases:
        t = measured(seconds, n_threads, length, dtype, causal, backward)
        cells = [
            f"{t[side] * 1e3:.2f} ({t[side] / t['off']:.2f}x)" if side in t else "-"
            for side in ("torch", "fastdrop")
        ]
        name = "forward+backward" if backward else "forward"
        causal_cell = "yes" if causal else "no"
        start = f"| {dtype} | {name} | {causal_cell} | {n_threads} | {length} |"
        print(f"{start} {t['off'] * 1e3:.2f} | {' | '.join(cells)} |", flush=True)


def eager(seconds: float, lengths: list[int]) -> None:
    print("Softmax and dropout as separate operations, forward+backward, float32, 2 threads, ms\n")
    print("| L | off | torch | fastdrop |\n|---|---|---|---|")
    for length in lengths:
        t = measured(seconds, 2, length, "float32", False, True, True)
        cells = [f"{t[side] * 1e3:.1f} ({t[side] / t['off']:.2f}x)" for side in t]
        print(f"| {length} | {' | '.join(cells)} |", flush=True)


def peak(side: str, length: int) -> None:
    """Print the MB that a forward and backward pass takes beyond operands, output and gradients."""
    call(side, 64, "float32", False, True)()
    run = call(side, length, "float32", False, True)
    results = 4 * BATCH * HEADS * WIDTH * length * 4
    before = peak_bytes()
    run()
    print((peak_bytes() - before - results) / 1e6)


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss includes what the parent had when it forked
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peaks(length: int) -> dict[str, float]:
    """Return each side's, in a process of its own."""
    found = {}
    for side in SIDES:
        command = [sys.executable, __file__, "peak", "--side", side, "--lengths", str(length)]
        found[side] = float(subprocess.check_output(command, text=True))
    return found


def memory(lengths: list[int]) -> None:
    print("MB beyond operands, output and gradients, forward+backward, float32, 16 heads of 64\n")
    print("| L | off | torch | fastdrop |\n|---|---|---|---|")
    for length in lengths:
        print(f"| {length} | {' | '.join(f'{mb:.1f}' for mb in peaks(length).values())} |")


def picture(seconds: float, lengths: list[int]) -> None:
    from matplotlib.figure import Figure

    lengths = [length for length in lengths if length <= 4096]
    took = [measured(seconds, 2, length, "float32", False, True) for length in lengths]
    held = [peaks(length) for length in lengths]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = {"off": "torch, no dropout", "torch": "torch, dropout", "fastdrop": "fastdrop, dropout"}
    colors = {"off": "#777777", "torch": "#d95f02", "fastdrop": "#0b559f"}
    for side, name in names.items():
        style = {"label": name, "color": colors[side], "marker": "o"}
        left.plot(lengths, [t[side] * 1e3 for t in took], **style)
        right.plot(lengths, [max(m[side], 1.0) for m in held], **style)
    left.set(ylabel="milliseconds, forward and backward", title="Time")
    right.set(ylabel="MB beyond operands, output and gradients", title="Memory")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="sequence length")
        axes.set_xticks(lengths, labels=map(str, lengths), minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.legend()
    figure.suptitle("Attention with p = .1, batch 2, 8 heads of 64, float32, 2 threads")
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = ["times", "eager", "memory", "picture", "peak"]
    parser.add_argument("what", nargs="?", default="times", choices=what)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", choices=list(SIDES), default="fastdrop", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.what == "peak":
        peak(args.side, *args.lengths)
        return
    print(f"torch {torch.__version__}, {platform.machine()}, fastdrop {fastdrop.__version__}\n")
    if args.what == "times":
        times(args.seconds, args.lengths, args.dtypes, args.threads)
    elif args.what == "eager":
        eager(args.seconds, args.lengths)
    elif args.what == "memory":
        memory(args.lengths)
    else:
        picture(args.seconds, args.lengths)


if __name__ == "__main__":
    main()
