"""Dropout in torch, torch's own against fastdrop's: single operations and whole training steps.

pytest bench/bench_torch.py --import-mode=importlib     operations, in groups
python bench/bench_torch.py                             whole steps: off, torch's, fastdrop's
python bench/bench_torch.py small                       steps of small models
python bench/bench_torch.py long                        steps of models with long sequences
python bench/bench_torch.py compiled                    steps of compiled models
python bench/bench_torch.py operations                  operations as one table
python bench/bench_torch.py memory                      peak memory of forward and backward

What is compared runs in processes of its own, in turns: a process that has enabled fastdrop
once reaches torch's own dropout through Python, and compiled graphs stay as they were made.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from timeit import Timer

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fastdrop.torch
from fastdrop.cli.timing import Run, medians, threads

SIDES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "torch": nullcontext,
    "fastdrop": fastdrop.torch.enabled,
}
SIZES = [16, 100, 257, 1_000, 2_000, 4_096, 5_000, 10_000, 100_000, 1_000_000, 10_000_000]
THREADS = [1, 2]


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


class Bert(nn.Module):
    """BERT of 4 layers and 256 dimensions, from a config."""

    def __init__(self, p: float) -> None:
        from transformers import BertConfig, BertForSequenceClassification

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


def mlp(p: float) -> tuple[nn.Module, torch.Tensor]:
    hidden = [nn.Linear(784, 1024), nn.ReLU(), nn.Dropout(p)]
    hidden += [nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(p)]
    return nn.Sequential(*hidden, nn.Linear(1024, 10)), torch.randn(256, 784)


def transformer(p: float) -> tuple[nn.Module, torch.Tensor]:
    return TokenEncoder(p), torch.randn(16, 128, 256)


def bert(p: float) -> tuple[nn.Module, torch.Tensor]:
    return Bert(p), torch.randint(8000, (8, 128))


MODELS = {
    "MLP 784-1024-1024-10, batch 256": (mlp, 0.5),
    "TransformerEncoder 2x256, batch 16x128": (transformer, 0.1),
    "BERT 4x256 from a config, batch 8x128": (bert, 0.1),
}


def chain(p: float) -> tuple[nn.Module, torch.Tensor]:
    """Elementwise operations on a million elements, which a compiler makes one loop of."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(10, 100_000))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.dropout(F.gelu(x), p) if p else F.gelu(x)
            return (y * self.weight).sum(1, keepdim=True).expand(10, 10)

    return Chain(), torch.randn(10, 100_000, requires_grad=True)


class Cells(nn.Module):
    """A recurrent cell with dropout, as language models of the LSTM era have it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.cell, self.p, self.head = nn.LSTMCell(512, 512), p, nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(len(x), 512)
        for _ in range(4):
            h, c = self.cell(F.dropout(x, self.p), (h, c))
            h = F.dropout(h, self.p)
        return self.head(h)


def lstm_cell(p: float) -> tuple[nn.Module, torch.Tensor]:
    return Cells(p), torch.randn(8, 512)


class Translator(nn.Module):
    """nn.Transformer with a linear head."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.body = nn.Transformer(32, 2, 2, 2, 64, dropout=p, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x, x)[:, 0])


class Attention(nn.Module):
    """Multihead attention that returns its weights, with a linear head."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.body = nn.MultiheadAttention(32, 4, dropout=p, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x, x, x)[0][:, 0])


def cnn(p: float) -> tuple[nn.Module, torch.Tensor]:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Dropout(p), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Dropout2d(p), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(32 * 16, 10)]
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    return model, torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last)


SMALL_MODELS = {
    "LSTMCell 512, 4 steps, batch 8": (lstm_cell, 0.5),
    "nn.Transformer of 32, batch 4x10": (lambda p: (Translator(p), torch.randn(4, 10, 32)), 0.1),
    "nn.MultiheadAttention of 32, batch 4x10": (
        lambda p: (Attention(p), torch.randn(4, 10, 32)),
        0.1,
    ),
    "channels_last CNN, batch 8x16x16": (cnn, 0.2),
}
COMPILED_MODELS = MODELS | {
    "gelu, dropout, product, 1M": (chain, 0.5),
    "the same, p = .1": (chain, 0.1),
}


def encoder(length: int) -> Callable[[float], tuple[nn.Module, torch.Tensor]]:
    """The encoder for sequences of a length, 2048 tokens in all."""
    return lambda p: (TokenEncoder(p), torch.randn(2048 // length, length, 256))


class CausalBlock(nn.Module):
    """A block of GPT-2: causal attention and an MLP, each with dropout."""

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.heads, self.p = heads, p
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropped = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv, dropout_p=self.p, is_causal=True)
        x = x + self.dropped(self.joined(out.transpose(1, 2).flatten(2)))
        return x + self.dropped(self.mlp(self.between(x)))


class CausalModel(nn.Module):
    """A language model shaped as GPT-2 is, with a head for classes."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(8000, 384), nn.Embedding(1024, 384)
        self.blocks = nn.Sequential(nn.Dropout(p), *(CausalBlock(384, 6, p) for _ in range(4)))
        self.head = nn.Linear(384, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.blocks(x)[:, -1])


LONG_MODELS = {
    **{
        f"TransformerEncoder 2x256, batch {2048 // n}x{n}": (encoder(n), 0.1)
        for n in (128, 512, 1024, 2048)
    },
    "BERT 4x256 from a config, batch 4x512": (
        lambda p: (Bert(p), torch.randint(8000, (4, 512))),
        0.1,
    ),
    "GPT-2 4x384, causal, batch 2x1024": (
        lambda p: (CausalModel(p), torch.randint(8000, (2, 1024))),
        0.1,
    ),
}
ALL_MODELS = COMPILED_MODELS | SMALL_MODELS | LONG_MODELS


def training_step(name: str, is_compiled: bool = False, *, dropping: bool) -> Callable[[], None]:
    """Return one step of a model: forward, backward, SGD."""
    make, p = ALL_MODELS[name]
    torch.manual_seed(0)
    model, x = make(p if dropping else 0.0)
    model.train()
    run = torch.compile(model) if is_compiled else model
    target = torch.randint(10, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(run(x), target).backward()
        optimizer.step()

    return step


def model_names(models: dict[str, object]) -> list[str]:
    has_transformers = importlib.util.find_spec("transformers") is not None
    return [name for name in models if has_transformers or not name.startswith("BERT")]


@pytest.mark.parametrize("name", model_names(MODELS))
@pytest.mark.parametrize("side", ["off", *SIDES])
def test_training_step(benchmark, name, side):
    benchmark.group = f"torch step: {name}"
    step = training_step(name, dropping=side != "off")
    with SIDES.get(side, nullcontext)():
        benchmark.pedantic(step, rounds=10, warmup_rounds=2)


Call = Callable[[], object]

# A step of a small model takes less than a process needs to wake up.
SAMPLE = 0.03  # seconds

MAKERS: dict[str, Callable[..., Call]] = {
    "step": training_step,
    "operation": lambda operation, n, p, dropping: OPERATIONS[operation](n, p),
}


class Side:
    """A process that times what it is told to, with or without fastdrop."""

    def __init__(self, name: str, n_threads: int) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, name, n_threads), daemon=True)
        self._process.start()

    def run(self, maker: str, *what: object) -> Run:
        """Return what times a number of calls in this process."""

        def run(calls: int) -> float:
            self._pipe.send((calls, maker, what))
            seconds: float = self._pipe.recv()
            return seconds

        return run

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()


def serve(pipe: Connection, side: str, n_threads: int) -> None:
    torch.set_num_threads(n_threads)
    torch.empty(31 << 20, dtype=torch.uint8)  # lets glibc keep memory, as enable() does
    if side == "fastdrop":
        fastdrop.torch.enable()
    made: dict[object, Call] = {}
    while (order := pipe.recv()) is not None:
        calls, maker, what = order
        if (maker, what) not in made:
            made.clear()  # those of rows that are done
            made[maker, what] = MAKERS[maker](*what, dropping=not side.startswith("off"))
        call = made[maker, what]
        settle(call)
        pipe.send(Timer(call).timeit(calls) / calls)


@contextmanager
def processes(*names: str, n_threads: int) -> Iterator[Callable[..., dict[str, float]]]:
    """Give a function that times the same in a process of each name, in turn."""
    sides = {name: Side(name, n_threads) for name in names}

    def measure(seconds: float, maker: str, *what: object) -> dict[str, float]:
        runs = [side.run(maker, *what) for side in sides.values()]
        return dict(zip(sides, medians(runs, seconds, SAMPLE), strict=True))

    yield measure
    for side in sides.values():
        side.stop()


def settle(call: Call) -> None:
    """Run until ten in a row cost no page fault, as in a loop of its own, or 40 times.

    A new array may take new memory, which costs more than fastdrop's kernels, and the
    first seven lie in seven places before two are enough.
    """
    without = 0
    for _ in range(40):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        call()
        without = without + 1 if resource.getrusage(resource.RUSAGE_SELF).ru_minflt == faults else 0
        if without == 10:
            return


def steps(models: dict[str, object], seconds: float, n_threads: int, is_compiled: bool) -> None:
    kind = "training step of a compiled model" if is_compiled else "training step"
    print(f"One {kind}, ms, median (relative to dropout off), {n_threads} threads\n")
    print("| model | p | dropout off | off, again | torch's | fastdrop's |")
    print("|---|---|---|---|---|---|")
    with processes("off", "torch", "off, again", "fastdrop", n_threads=n_threads) as measure:
        for name in model_names(models):
            t = measure(seconds, "step", name, is_compiled)
            cells = [
                f"{t[side] * 1e3:.2f} ({t[side] / t['off']:.3f}x)"
                for side in ("off, again", "torch", "fastdrop")
            ]
            p, off = ALL_MODELS[name][1], t["off"] * 1e3
            print(f"| {name} | {p} | {off:.2f} | {' | '.join(cells)} |", flush=True)
    if len(model_names(models)) < len(models):
        print("\nThe BERT row needs `pip install transformers`.")


def operations(seconds: float, n_threads: int, sizes: list[int]) -> None:
    print(f"F.dropout on float32, microseconds, median, {n_threads} threads\n")
    print("| operation | p | n | torch's | fastdrop's | ratio |\n|---|---|---|---|---|---|")
    with processes(*SIDES, n_threads=n_threads) as measure:
        for operation, p, n in product(OPERATIONS, (0.1, 0.5), sizes):
            t = measure(seconds, "operation", operation, n, p)
            own, ours = (t[side] * 1e6 for side in SIDES)
            row = f"| {operation} | {p} | {n} | {own:.2f} | {ours:.2f} | {own / ours:.2f} |"
            print(row, flush=True)


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


STEPS = {"steps": MODELS, "small": SMALL_MODELS, "long": LONG_MODELS, "compiled": COMPILED_MODELS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", nargs="?", default="steps", choices=[*STEPS, "operations", "memory", "peak"]
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
        is_compiled = args.what == "compiled"
        steps(STEPS[args.what], args.seconds, args.threads, is_compiled)


if __name__ == "__main__":
    main()
