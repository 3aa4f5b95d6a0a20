"""Dropout in Keras 3 on torch: a layer with Keras's seeds and fastdrop's masks.

    python examples/keras_torch.py

`fastdrop.torch.enable()` is enough for layers without a seed. With one, Keras draws its mask by
`torch.bernoulli`, so that `enable()` does not see a dropout.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"  # Keras reads it when it is imported

import keras
import numpy as np
import torch

import fastdrop.torch.functional


@keras.saving.register_keras_serializable("fastdrop")
class Dropout(keras.layers.Dropout):
    """Keras's layer: the same arguments and weights, and its seed and count make the mask's key."""

    def call(self, inputs: torch.Tensor, training: bool = False) -> torch.Tensor:
        """Return the inputs, with elements dropped in training."""
        # Masks of a noise_shape are small. On "meta" Keras only asks for the output's shape.
        if not training or self.rate == 0 or self.noise_shape or not inputs.is_cpu:
            return super().call(inputs, training=training)
        # Of a seed torch uses 32 bits, so both numbers are mixed into these.
        seeds = np.random.SeedSequence(self.seed_generator.next().tolist())
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1)[0]))
        return fastdrop.torch.functional.dropout(inputs, self.rate, generator=generator)


def convert(layer: keras.Layer) -> keras.Layer:
    """Return a copy of a layer, with fastdrop's masks if it is a dropout: for `clone_model`."""
    cls = Dropout if type(layer) is keras.layers.Dropout else type(layer)
    return cls.from_config(layer.get_config())


def main() -> None:
    x = torch.ones(1000, 100, requires_grad=True)
    layer = Dropout(0.1, seed=7)
    y = layer(x, training=True)
    y.sum().backward()
    print(f"dropped: {(y == 0).float().mean():.2f}")
    print("gradient equals the mask:", torch.equal(x.grad, y.detach()))
    print("another mask each time:", not torch.equal(layer(x, training=True), y))
    print("same seed, same mask:", torch.equal(Dropout(0.1, seed=7)(x, training=True), y))

    layers = [keras.Input((20,)), keras.layers.Dense(50), keras.layers.Dropout(0.1, seed=7)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    converted = keras.models.clone_model(model, clone_function=convert)
    converted.set_weights(model.get_weights())
    converted.compile(optimizer="sgd", loss="mse")
    data = np.random.default_rng(0).normal(size=(256, 20))
    losses = converted.fit(data, data[:, :1], epochs=5, verbose=0).history["loss"]
    print("a converted model learns:", losses[-1] < losses[0])


if __name__ == "__main__":
    main()
