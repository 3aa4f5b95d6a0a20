"""Switching while other threads train: no crash, and every dropout whole, torch's or fastdrop's."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from torch_support import in_a_fresh_process

TRAIN_AND_SWITCH = """
import faulthandler, random, sys, threading, time, traceback
import torch
import fastdrop.torch as ft

faulthandler.enable()
F = torch.nn.functional
torch.set_num_threads(1)
end = time.monotonic() + float(sys.argv[1])
failures, counts = [], {"steps": 0, "switches": 0}

def consistent(n, shape=None):
    x = torch.ones(shape or n, requires_grad=True)
    drop = F.dropout2d if shape else F.dropout
    for inplace in False, True:
        x.grad = None
        y = drop(x.clone(), 0.5, inplace=inplace)
        y.sum().backward()
        assert torch.equal(x.grad, y.detach()), (n, shape, inplace)
        values = set(y.unique().tolist())
        assert values <= {0.0, 2.0}, values
        assert n < 99 or values == {0.0, 2.0}, values
    with torch.no_grad():
        y = F.alpha_dropout(torch.ones(max(n, 100)), 0.5, True)
        assert y.unique().numel() == 2, y.unique()

def train():
    model = torch.nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    while time.monotonic() < end and not failures:
        loss = model(torch.randn(2, 8, 16)).square().mean()
        assert torch.isfinite(loss), loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        consistent(random.choice([3, 200, 300, 5000, 70_000]))
        consistent(100, (10, 20, 3, 2))
        counts["steps"] += 1

def switch():
    while time.monotonic() < end and not failures:
        with ft.enabled():
            assert ft.is_enabled()
            consistent(300)
        counts["switches"] += 1
        time.sleep(random.uniform(0, 0.02) if random.random() < 0.7 else 0)

def watched(f):
    def run():
        try:
            f()
        except BaseException:
            failures.append(traceback.format_exc())
    return run

threads = [threading.Thread(target=watched(f)) for f in (train, train, switch)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(counts)
assert not failures, failures[0]
assert not ft.is_enabled()
assert min(counts.values()) > 10, counts
"""


@pytest.mark.parametrize("seconds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_switching_while_others_train(seconds):
    in_a_fresh_process(TRAIN_AND_SWITCH, str(seconds), timeout=seconds + 300)
