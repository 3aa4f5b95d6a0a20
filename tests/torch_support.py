"""What several tests of fastdrop.torch need: fresh processes, switches, and answers to compare."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

ALPHA = 1.7580993408473766


def affine(p: float) -> tuple[float, float, float]:
    """Return alpha dropout's slope, its intercept, and the value of what is dropped."""
    a = ((1 - p) * (1 + p * ALPHA**2)) ** -0.5
    return a, ALPHA * a * p, -ALPHA * a * (1 - p)


def in_a_fresh_process(code: str, *arguments: str, timeout: float = 300, **variables: str) -> str:
    """Run Python code with arguments and environment variables; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def no_warnings() -> Iterator[None]:
    """Ignore warnings: which torch gives for TorchScript, say, is another in each version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outcome(f: Callable[[], Any]) -> tuple[Any, ...]:
    """Return what a function returns, or which error it raises with which words."""
    try:
        return "returned", f()
    except Exception as error:
        return type(error), str(error)


def state_after(f: Callable[[], Any], seed: int = 1) -> bytes:
    """Return the state of torch's default generator after seeding it and calling a function."""
    torch.manual_seed(seed)
    f()
    return bytes(torch.get_rng_state().numpy())
