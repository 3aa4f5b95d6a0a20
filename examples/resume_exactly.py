"""Stop a training run, resume it in a new process, and get the same weights, bit for bit.

The new process even uses another backend and another number of threads.

    python examples/resume_exactly.py
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from mlp_backward import Network, digits

import fastdrop


def train(network: Network, first: int, last: int) -> None:
    """Take steps first to last - 1."""
    x, y = digits()
    for step in range(first, last):
        batch = np.random.default_rng(step).integers(0, len(x), 64)
        network.step(x[batch], y[batch])


def resume(checkpoint: str, backend: str, threads: str) -> None:
    """Resume a run from its checkpoint, train it to step 40, and save it again."""
    fastdrop.set_backend(backend)
    fastdrop.set_num_threads(int(threads))
    weights, state = pickle.loads(Path(checkpoint).read_bytes())
    network = Network(p=0.5, seed=999)
    network.weights = weights
    network.dropout.load_state_dict(state)
    train(network, 20, 40)
    Path(checkpoint).write_bytes(pickle.dumps((network.weights, network.dropout.state_dict())))


def main(backend: str = "reference") -> bool:
    whole, stopped = Network(p=0.3, seed=0), Network(p=0.3, seed=0)
    train(whole, 0, 40)
    train(stopped, 0, 20)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint")
        checkpoint.write_bytes(pickle.dumps((stopped.weights, stopped.dropout.state_dict())))
        threads = str(fastdrop.get_num_threads() + 1)
        command = [sys.executable, __file__, str(checkpoint), backend, threads]
        subprocess.run(command, check=True)
        weights, state = pickle.loads(checkpoint.read_bytes())
    same = state == whole.dropout.state_dict() and all(
        np.array_equal(a, b) for a, b in zip(whole.weights, weights, strict=True)
    )
    print("the resumed run has", "the same weights" if same else "OTHER WEIGHTS")
    return same


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        resume(*sys.argv[1:])
