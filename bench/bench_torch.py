"""Dropout in torch, torch's own against fastdrop's: single operations and whole training steps.

pytest bench/bench_torch.py --import-mode=importlib     operations, in groups
python bench/bench_torch.py                             whole steps: off, torch's, fastdrop's
python bench/bench_torch.py operations                  operations as one table
python bench/bench_torch.py memory                      peak memory of forward and backward
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fastdrop.torch

SIDES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "torch": nullcontext,
    "fastdrop": fastdrop.torch.enabled,
}
SIZES = [16, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]
THREADS = [1, 2]


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


def forward(n: int, p: float) -> Callable[[], object]:
    x = torch.randn(n)
    return lambda: F.dropout(x, p)


def forward_backward(n: int, p: float) -> Callable[[], object]:
    x, grad = torch.randn(n, requires_grad=True), torch.ones(n)

    def run() -> None:
        x.grad = None
        F.dropout(x, p).backward(grad)

    return run


OPERATIONS = {"forward": forward, "forward+backward": forward_backward}


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("n_threads", THREADS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("side", SIDES)
def test_operation(benchmark, side, operation, n, n_threads, p):
    benchmark.group = f"torch {operation}, n={n}, p={p}, {n_threads} threads"
    run = OPERATIONS[operation](n, p)
    with SIDES[side](), threads(n_threads):
        benchmark(run)


class TokenEncoder(nn.Module):
    """nn.TransformerEncoder with a linear head."""

    def __init__(self, p: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=p, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x)[:, 0])


def mlp(p: float) -> tuple[nn.Module, torch.Tensor]:
    hidden = [nn.Linear(784, 1024), nn.ReLU(), nn.Dropout(p)]
    hidden += [nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(p)]
    return nn.Sequential(*hidden, nn.Linear(1024, 10)), torch.randn(256, 784)


def transformer(p: float) -> tuple[nn.Module, torch.Tensor]:
    return TokenEncoder(p), torch.randn(16, 128, 256)


def bert(p: float) -> tuple[nn.Module, torch.Tensor]:
    from transformers import BertConfig, BertForSequenceClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=8000,
                hidden_size=256,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=1024,
                hidden_dropout_prob=p,
                attention_probs_dropout_prob=p,
                num_labels=10,
            )
            self.model = BertForSequenceClassification(config)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.model(tokens).logits

    return Logits(), torch.randint(8000, (8, 128))


MODELS = {
    "MLP 784-1024-1024-10, batch 256": (mlp, 0.5),
    "TransformerEncoder 2x256, batch 16x128": (transformer, 0.1),
    "BERT 4x256 from a config, batch 8x128": (bert, 0.1),
}


def training_step(
    make: Callable[..., tuple[nn.Module, torch.Tensor]], p: float
) -> Callable[[], None]:
    """Return one step: forward, backward, SGD."""
    torch.manual_seed(0)
    model, x = make(p)
    model.train()
    target = torch.randint(10, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), target).backward()
        optimizer.step()

    return step


def model_names() -> list[str]:
    has_transformers = importlib.util.find_spec("transformers") is not None
    return [name for name in MODELS if has_transformers or not name.startswith("BERT")]


@pytest.mark.parametrize("side", ["off", *SIDES])
@pytest.mark.parametrize("name", model_names())
def test_training_step(benchmark, name, side):
    make, p = MODELS[name]
    benchmark.group = f"torch step: {name}"
    step = training_step(make, 0.0 if side == "off" else p)
    with SIDES.get(side, nullcontext)():
        benchmark.pedantic(step, rounds=10, warmup_rounds=2)


Run = Callable[[], object]


def interleaved(
    runs: dict[str, tuple[str, Run]], seconds: float, repeats: int = 1
) -> dict[str, float]:
    """Return the median time of each run, taken in turns so that drift hits all alike.

    A run has a side, which is switched on before the clock starts.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times[next(iter(runs))]) < 7:
        for name, (side, run) in runs.items():
            with SIDES[side]():
                settle(run)
                start = time.perf_counter()
                for _ in range(repeats):
                    run()
                times[name].append((time.perf_counter() - start) / repeats)
    return {name: median(t[2:]) for name, t in times.items()}


def settle(run: Run) -> None:
    """Run until ten in a row cost no page fault, as in a loop of its own, or 40 times.

    What ran before has left glibc's heap in another shape. A new array may then
    take new memory, which costs more than fastdrop's kernels, and the first seven
    lie in seven places before two are enough.
    """
    without = 0
    for _ in range(40):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        run()
        without = without + 1 if resource.getrusage(resource.RUSAGE_SELF).ru_minflt == faults else 0
        if without == 10:
            return


def steps(seconds: float, n_threads: int) -> None:
    print(f"One training step, ms, median (relative to dropout off), {n_threads} threads\n")
    print("| model | p | dropout off | off, again | torch's | fastdrop's |")
    print("|---|---|---|---|---|---|")
    for name in model_names():
        make, p = MODELS[name]
        off, dropping = training_step(make, 0.0), training_step(make, p)
        runs = {"off": ("torch", off), "torch": ("torch", dropping)}
        runs |= {"again": ("torch", off), "fastdrop": ("fastdrop", dropping)}
        with threads(n_threads):
            t = interleaved(runs, seconds, repeats=3)
        cells = [
            f"{t[side] * 1e3:.2f} ({t[side] / t['off']:.3f}x)"
            for side in ("again", "torch", "fastdrop")
        ]
        print(f"| {name} | {p} | {t['off'] * 1e3:.2f} | {' | '.join(cells)} |", flush=True)
    if len(model_names()) < len(MODELS):
        print("\nThe BERT row needs `pip install transformers`.")


def operations(seconds: float, n_threads: int, sizes: list[int]) -> None:
    print(f"F.dropout on float32, microseconds, median, {n_threads} threads\n")
    print("| operation | p | n | torch's | fastdrop's | ratio |\n|---|---|---|---|---|---|")
    for operation, make in OPERATIONS.items():
        for p in (0.1, 0.5):
            for n in sizes:
                run, repeats = make(n, p), min(1000, max(1, 5_000_000 // n))
                runs = {side: (side, run) for side in SIDES}
                with threads(n_threads):
                    t = interleaved(runs, seconds, repeats)
                own, ours = (t[side] * 1e6 for side in SIDES)
                print(
                    f"| {operation} | {p} | {n} | {own:.2f} | {ours:.2f} | {own / ours:.2f} |",
                    flush=True,
                )


def memory() -> None:
    """Print the peak memory of a forward and backward pass on 400 MB, each in its own process."""
    print("| dropout | peak above the input and its gradient, arrays of 400 MB |\n|---|---|")
    for side in SIDES:
        command = [sys.executable, __file__, "peak", "--side", side]
        print(f"| {side} | {subprocess.check_output(command, text=True).strip()} |", flush=True)


def peak(side: str) -> None:
    n = 100_000_000
    forward_backward(1000, 0.1)()
    x, grad = torch.ones(n, requires_grad=True), torch.ones(n)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with SIDES[side]():
        F.dropout(x, 0.1).backward(grad)
    end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if platform.system() == "Darwin" else 1024
    print(f"{(end - start) * unit / (4 * n):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", nargs="?", default="steps", choices=["steps", "operations", "memory", "peak"]
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="elements")
    parser.add_argument("--side", choices=list(SIDES), default="fastdrop", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.what == "peak":
        peak(args.side)
        return
    print(f"torch {torch.__version__}, {platform.machine()}, fastdrop {fastdrop.__version__}\n")
    if args.what == "memory":
        memory()
    elif args.what == "operations":
        operations(args.seconds, args.threads, args.sizes)
    else:
        steps(args.seconds, args.threads)


if __name__ == "__main__":
    main()
