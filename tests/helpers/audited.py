"""Loads hostile states under an audit hook: run by test_security.py, prints what was executed."""

from __future__ import annotations

import contextlib
import copy
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastdrop

WATCHED = ("exec", "compile", "import", "pickle.", "marshal.", "open", "os.", "subprocess.",
           "ctypes.", "socket.", "shutil.", "code.", "urllib.")  # fmt: skip
TEXTS = [
    "os",
    "os.system",
    "__import__('os').system('exit 1')",
    "builtins.eval",
    "numpy.random.seed",
    "RandomState",
    "__class__",
    "__reduce__",
    "BitGenerator",
    "bit_generator",
    "default_rng",
    "../../etc/passwd",
    pickle.dumps(print),
    pickle.dumps(np.random.MT19937(1)),
    b"cos\nsystem\n(S'exit 1'\ntR.",
]
events: list[str] = []


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Remember what runs while states are loaded."""
    if listening and event.startswith(WATCHED):
        events.append(f"{event} {arguments!r:.100}")


listening = False
sys.addaudithook(hook)


def variants(state: Any) -> Iterator[Any]:
    """Yield copies of a state with one text at each of its places."""
    yield from TEXTS
    for key in state if isinstance(state, dict) else ():
        for value in variants(state[key]):
            yield {**state, key: value}


def main() -> int:
    """Load everything, and fail if anything was executed."""
    global listening
    tried = 0
    generators = [fastdrop.ARS4x32, fastdrop.PCG64, np.random.MT19937, np.random.Philox]
    for generator in generators:
        layer = fastdrop.Dropout(0.3, rng=generator(1))
        mask = fastdrop.dropout(np.ones(9), rng=generator(1), return_mask=True)[1]
        layer.load_state_dict(layer.state_dict())  # what is imported at first use is now
        fastdrop.Mask.from_state(mask.state)
        pairs = (
            (layer.load_state_dict, layer.state_dict()),
            (fastdrop.Mask.from_state, mask.state),
            (lambda state, rng=layer.rng: setattr(rng, "state", state), layer.rng.state),
        )
        for load, good in pairs:
            for bad in list(variants(copy.deepcopy(good))):
                tried += 1
                listening = True
                with contextlib.suppress(TypeError, ValueError):
                    load(bad)
                listening = False
    print(f"{tried} states", *events, sep="\n")
    listening, before = True, len(events)
    pickle.loads(pickle.dumps(print))  # which the hook has to notice
    return 0 if len(events) > before else 1


if __name__ == "__main__":
    sys.exit(main())
