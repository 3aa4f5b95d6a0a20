"""Train a small transformer with torch's dropout and with fastdrop's: one line differs."""

import time

import torch
from torch import nn

import fastdrop.torch


def train(steps: int = 20) -> tuple[float, float]:
    """Return the last loss and the milliseconds of the fastest step."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.1, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(64 * 128, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.randn(16, 64, 128)
    target = x.mean((1, 2)).mul(300).long().clamp(-2, 1) + 2
    best = float("inf")
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        best = min(best, time.perf_counter() - start)
    return loss.item(), best * 1e3


def main() -> None:
    loss, milliseconds = train()
    print(f"torch's dropout:    loss {loss:.3f}, {milliseconds:.1f} ms a step")

    replaced = fastdrop.torch.enable()  # every CPU dropout of this process, from here on
    loss, milliseconds = train()
    print(f"fastdrop's dropout: loss {loss:.3f}, {milliseconds:.1f} ms a step")
    print("replaced:", ", ".join(replaced))
    fastdrop.torch.disable()

    # Or leave torch as it is, and convert the modules of one model, here with their own generator.
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    fastdrop.torch.convert(model, generator=torch.Generator().manual_seed(1))
    print(model(torch.ones(1, 8)).detach())


if __name__ == "__main__":
    main()
