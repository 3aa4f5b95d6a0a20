"""A small transformer in plain NumPy that learns this project's documents, character by character.

`fastdrop.attention` drops attention probabilities, `dropout_add` and `act_dropout` the rest, and
every backward pass evaluates its mask again. The same model is trained without dropout and with it,
on so little text that it can learn that by heart: held-out text shows that dropout prevents it.

    python examples/attention_text.py

References: A. Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762. Norms
come before the layers: R. Xiong et al., "On layer normalization in the transformer architecture",
ICML 2020, arXiv:2002.04745. Adam: D. P. Kingma, J. Ba, ICLR 2015, arXiv:1412.6980.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fastdrop

ROOT = Path(__file__).parent.parent
WIDTH, HEADS, LAYERS, LENGTH, BATCH = 64, 4, 2, 64, 16
CHARACTERS, HELD_OUT = 10_000, 4_000  # of text

Arrays = dict[str, np.ndarray]


def load_text() -> tuple[np.ndarray, np.ndarray, str]:
    """Return the documents as numbers of characters, to train on and held out, and the alphabet."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(file.read_text() for file in files)
    alphabet = "".join(sorted(set(text)))
    numbers = np.array([alphabet.index(c) for c in text])
    pieces = np.array_split(numbers, len(text) // 1000)
    train = np.concatenate([piece for i, piece in enumerate(pieces) if i % 10])
    return train[:CHARACTERS], np.concatenate(pieces[::10])[:HELD_OUT], alphabet


def norm(x: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return rows with mean 0 and variance 1, times a gain, and what the backward needs."""
    x = x - x.mean(axis=-1, keepdims=True)
    per_deviation = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    unit = x * per_deviation
    return unit * gain, (unit, per_deviation, gain)


def norm_backward(grad: np.ndarray, saved: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients with respect to x and the gain."""
    unit, per_deviation, gain = saved
    of_gain = (grad * unit).sum(axis=0)
    grad = grad * gain
    grad -= grad.mean(axis=-1, keepdims=True)
    grad -= unit * (grad * unit).mean(axis=-1, keepdims=True)
    return grad * per_deviation, of_gain


def split(x: np.ndarray, batch: int, parts: int) -> list[np.ndarray]:
    """Return rows, (batch * time, parts * width), as arrays (batch, heads, time, width / heads)."""
    heads = x.reshape(batch, -1, parts, HEADS, WIDTH // HEADS)
    return [heads[:, :, part].swapaxes(1, 2) for part in range(parts)]


def join(parts: list[np.ndarray]) -> np.ndarray:
    """Undo `split`."""
    heads = np.stack([part.swapaxes(1, 2) for part in parts], axis=2)
    return heads.reshape(-1, len(parts) * WIDTH)


class Model:
    """A causal transformer: weights by name, and the generator of its masks."""

    def __init__(self, characters: int, p: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shapes = {
            "embed": (characters, WIDTH),
            "place": (LENGTH, WIDTH),
            "out": (WIDTH, characters),
        }
        for i in range(LAYERS):
            shapes |= {f"qkv{i}": (WIDTH, 3 * WIDTH), f"join{i}": (WIDTH, WIDTH)}
            shapes |= {f"up{i}": (WIDTH, 4 * WIDTH), f"down{i}": (4 * WIDTH, WIDTH)}
        self.weights: Arrays = {
            name: rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        for name in ("embed", "place"):
            self.weights[name] *= np.float32(0.1)
        for i in range(2 * LAYERS + 1):
            self.weights[f"gain{i}"] = np.ones(WIDTH, np.float32)
        self.p, self.training, self.rng = p, True, fastdrop.ARS4x32(seed)

    def block(self, i: int, x: np.ndarray, batch: int) -> tuple[np.ndarray, Any]:
        """Return layer i's output for rows, (batch * time, width), and what its backward needs."""
        w, how = self.weights, {"training": self.training, "rng": self.rng}
        seen, of_seen = norm(x, w[f"gain{2 * i}"])
        q, k, v = split(seen @ w[f"qkv{i}"], batch, 3)
        heads, attention = fastdrop.attention(
            q, k, v, self.p, causal=True, return_saved=True, **how
        )
        joined = join([heads])
        x, mask = fastdrop.dropout_add(joined @ w[f"join{i}"], x, self.p, return_mask=True, **how)
        read, of_read = norm(x, w[f"gain{2 * i + 1}"])
        up = read @ w[f"up{i}"]
        active, act_mask = fastdrop.act_dropout(up, "gelu", self.p, return_mask=True, **how)
        y, last_mask = fastdrop.dropout_add(
            active @ w[f"down{i}"], x, self.p, return_mask=True, **how
        )
        first = seen, of_seen, attention, joined, mask
        return y, (*first, read, of_read, up, active, act_mask, last_mask)

    def block_backward(self, i: int, grad: np.ndarray, saved: Any, grads: Arrays) -> np.ndarray:
        """Return the gradient with respect to layer i's input, and note those of its weights."""
        w = self.weights
        seen, of_seen, attention, joined, mask = saved[:5]
        read, of_read, up, active, act_mask, last_mask = saved[5:]
        batch = len(attention.out)
        of_sum = fastdrop.dropout_backward(grad, last_mask)
        grads[f"down{i}"] = active.T @ of_sum
        of_up = fastdrop.act_dropout_backward(of_sum @ w[f"down{i}"].T, up, act_mask, "gelu")
        grads[f"up{i}"] = read.T @ of_up
        of_x, grads[f"gain{2 * i + 1}"] = norm_backward(of_up @ w[f"up{i}"].T, of_read)
        grad = grad + of_x
        of_sum = fastdrop.dropout_backward(grad, mask)
        grads[f"join{i}"] = joined.T @ of_sum
        [of_heads] = split(of_sum @ w[f"join{i}"].T, batch, 1)
        of_qkv = join([*attention.backward(of_heads)])
        grads[f"qkv{i}"] = seen.T @ of_qkv
        of_x, grads[f"gain{2 * i}"] = norm_backward(of_qkv @ w[f"qkv{i}"].T, of_seen)
        return grad + of_x

    def loss(self, text: np.ndarray) -> tuple[float, Any]:
        """Return the mean loss of characters given those before them, and what gradients need."""
        w, before, after = self.weights, text[:, :-1], text[:, 1:].reshape(-1, 1)
        x = (w["embed"][before] + w["place"][: before.shape[1]]).reshape(-1, WIDTH)
        saved = []
        for i in range(LAYERS):
            x, of_block = self.block(i, x, len(text))
            saved.append(of_block)
        x, of_norm = norm(x, w[f"gain{2 * LAYERS}"])
        chances = fastdrop.softmax_dropout(x @ w["out"], p=0.0)
        right = np.take_along_axis(chances, after, axis=1)
        return float(-np.log(right).mean()), (before, after, saved, x, of_norm, chances)

    def gradients(self, made: Any) -> Arrays:
        """Return the gradients of the loss with respect to the weights."""
        before, after, saved, x, of_norm, chances = made
        grads = {name: np.zeros_like(w) for name, w in self.weights.items()}
        grad = chances / np.float32(after.size)
        grad[np.arange(len(grad)), after[:, 0]] -= np.float32(1 / after.size)
        grads["out"] = x.T @ grad
        grad, grads[f"gain{2 * LAYERS}"] = norm_backward(grad @ self.weights["out"].T, of_norm)
        for i in reversed(range(LAYERS)):
            grad = self.block_backward(i, grad, saved[i], grads)
        grad = grad.reshape(*before.shape, WIDTH)
        np.add.at(grads["embed"], before, grad)
        grads["place"][: before.shape[1]] = grad.sum(axis=0)
        return grads


class Adam:
    """The optimizer: a step for each weight by its gradient's mean and size so far."""

    def __init__(self, rate: float) -> None:
        self.rate, self.steps, self.means, self.squares = rate, 0, {}, {}

    def step(self, weights: Arrays, grads: Arrays) -> None:
        """Change the weights, in place."""
        self.steps += 1
        for name, grad in grads.items():
            mean = self.means.setdefault(name, np.zeros_like(grad))
            square = self.squares.setdefault(name, np.zeros_like(grad))
            mean += np.float32(0.1) * (grad - mean)
            square += np.float32(0.01) * (grad * grad - square)
            rate = self.rate * (1 - 0.99**self.steps) ** 0.5 / (1 - 0.9**self.steps)
            weights[name] -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))


def batches(text: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return some stretches of text at random, (batch, LENGTH + 1)."""
    starts = rng.integers(0, len(text) - LENGTH, BATCH)
    return text[starts[:, None] + np.arange(LENGTH + 1)]


def held_out_loss(model: Model, text: np.ndarray) -> float:
    """Return the mean loss of text, without dropout."""
    model.training = False
    whole = text[: len(text) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    loss = model.loss(whole)[0]
    model.training = True
    return loss


def train(p: float, steps: int, seed: int = 0) -> tuple[float, float]:
    """Train a model, and return its first loss in training and its last on the held-out text."""
    text, held_out, alphabet = load_text()
    model, adam, rng = Model(len(alphabet), p, seed), Adam(3e-3), np.random.default_rng(seed)
    print(f"p = {p}: {sum(w.size for w in model.weights.values())} weights")
    first = 0.0
    for step in range(steps):
        loss, made = model.loss(batches(text, rng))
        adam.step(model.weights, model.gradients(made))
        first = first or loss
        if step % 100 == 0 or step == steps - 1:
            print(
                f"  step {step:4}: loss {loss:.3f}, held out {held_out_loss(model, held_out):.3f}"
            )
    return first, held_out_loss(model, held_out)


def main(steps: int = 600) -> dict[float, tuple[float, float]]:
    with threadpool_limits(1, "blas"):  # its threads would wait longer than they work
        return {p: train(p, steps) for p in (0.0, 0.1)}


if __name__ == "__main__":
    main()
