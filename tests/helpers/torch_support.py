"""What several tests of fastdrop.torch need: fresh processes, switches, and answers to compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

ALPHA = 1.7580993408473766

MODULES = {  # of functions
    "dropout": "Dropout",
    "dropout1d": "Dropout1d",
    "dropout2d": "Dropout2d",
    "dropout3d": "Dropout3d",
    "alpha_dropout": "AlphaDropout",
    "feature_alpha_dropout": "FeatureAlphaDropout",
}


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


_EACH_IN_A_CHILD = """
import json, os, sys, traceback
import torch, torch._dynamo  # which takes longer than all the rest
from torch.utils.flop_counter import FlopCounterMode
import fastdrop
for place, code in json.loads(sys.argv[1]).items():
    child = os.fork()
    if child == 0:
        status = 1
        try:
            exec(code, {"torch": torch, "FlopCounterMode": FlopCounterMode})
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1] == 0:
        print(place)
"""


def run_right_in_children(codes: dict[str, str]) -> list[str]:
    """Run each code in a forked child of a process that knows torch; return who did not fail."""
    return in_a_fresh_process(_EACH_IN_A_CHILD, json.dumps(codes)).splitlines()


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
