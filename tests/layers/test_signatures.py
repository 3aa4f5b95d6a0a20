"""The functions' signatures: one argument has one name, kind, place and default in all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, get_overloads

import pytest

import fastdrop
from fastdrop import functional
from fastdrop.functional import family

NAMES = functional.__all__
BACKWARD = [name for name in NAMES if name.endswith("_backward")]
# Attention takes three arrays and no mask to draw instead, and returns more than a mask.
# `mask` takes no array.
FORWARD = [name for name in NAMES if name not in [*BACKWARD, "attention", "mask"]]
FUSED = ["dropout_add", "bias_dropout_add", "act_dropout", "relu_dropout"]

# What comes before p, and what others name or order otherwise.
OPERANDS = {
    "dropout_add": ["residual"],
    "bias_dropout_add": ["bias", "residual"],
    "act_dropout": ["activation"],
    "mc_dropout": ["samples"],
}
BY_POSITION = {
    "drop_path": ["x", "p", "training", "scale_by_keep", "inplace"],  # timm's order
    "drop_block2d": ["x", "p", "block_size"],  # the rest by name: torchvision has another order
    "softmax_dropout": ["x", "p", "axis"],
}
LAYERS = {
    "dropout": fastdrop.Dropout,
    "dropout1d": fastdrop.Dropout1d,
    "dropout2d": fastdrop.Dropout2d,
    "dropout3d": fastdrop.Dropout3d,
    "alpha_dropout": fastdrop.AlphaDropout,
    "feature_alpha_dropout": fastdrop.FeatureAlphaDropout,
    "gaussian_dropout": fastdrop.GaussianDropout,
    "drop_path": fastdrop.DropPath,
    "drop_block2d": fastdrop.DropBlock2d,
}
DEFAULTS = {"training": True, "inplace": False, "rng": None, "out": None, "return_mask": False}


def parameters(name: str) -> dict[str, Parameter]:
    return dict(inspect.signature(getattr(functional, name)).parameters)


def by_position(name: str) -> list[str]:
    return [
        parameter.name
        for parameter in parameters(name).values()
        if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]


def test_every_function_is_public() -> None:
    assert set(NAMES) <= set(fastdrop.__all__)
    assert all(getattr(fastdrop, name) is getattr(functional, name) for name in NAMES)


@pytest.mark.parametrize("name", FORWARD)
def test_forward_functions_take_the_same(name: str) -> None:
    found = parameters(name)
    needed = set(DEFAULTS) - ({"inplace"} if name == "mc_dropout" else set())  # of another shape
    assert needed <= set(found)
    for argument in needed:
        assert found[argument].default is DEFAULTS[argument], argument
    usual = ["x", *OPERANDS.get(name, []), "p", "training", *({"inplace"} & needed)]
    assert by_position(name) == BY_POSITION.get(name, usual)
    layer = LAYERS.get(name, fastdrop.Dropout)
    assert found["p"].default == inspect.signature(layer).parameters["p"].default
    # A mask of one's own can be applied by itself, but not fused.
    assert ("mask" in found) == (name in FUSED)
    last = ["rng", *(["mask"] if name in FUSED else []), "out", "return_mask"]
    assert list(found)[-len(last) :] == last
    assert all(found[argument].kind is Parameter.KEYWORD_ONLY for argument in last)


@pytest.mark.parametrize("name", BACKWARD)
def test_backward_functions_take_the_same(name: str) -> None:
    found = parameters(name)
    x = [] if name == "dropout_backward" else ["x"]
    activation = ["activation"] if name.startswith("act_") else []
    assert by_position(name) == ["grad", *x, "mask", *activation]
    assert list(found)[-1] == "out"
    assert (found["out"].kind, found["out"].default) == (Parameter.KEYWORD_ONLY, None)


def test_an_activation_is_the_same_argument_forward_and_backward() -> None:
    forward, backward = (
        parameters(name)["activation"] for name in ("act_dropout", "act_dropout_backward")
    )
    assert forward == backward


def test_softmax_is_the_same_forward_and_backward() -> None:
    forward, backward = map(parameters, ("softmax_dropout", "softmax_dropout_backward"))
    for argument in ("axis", "scale", "bias", "causal"):
        assert forward[argument].default == backward[argument].default


def test_attention_takes_what_softmax_does() -> None:
    found, of_softmax = parameters("attention"), parameters("softmax_dropout")
    assert by_position("attention") == ["q", "k", "v", "p"]
    for argument in ("causal", "training", "rng"):
        assert found[argument] == of_softmax[argument]


@pytest.mark.parametrize("name", LAYERS)
def test_a_function_takes_its_layers_settings(name: str) -> None:
    of_layer = dict(inspect.signature(LAYERS[name]).parameters)
    del of_layer["always"]  # which training is
    found = parameters(name)
    assert set(of_layer) <= set(found)
    for argument, parameter in of_layer.items():
        assert found[argument].default == parameter.default, argument
    more = {"x", "training", "out", "return_mask"} | (
        {"sample_ids"} if name == "dropout" else set()
    )
    assert set(found) - set(of_layer) == more


def overloads_of(name: str) -> list[Callable[..., Any]]:
    """Return what type checkers see of a function."""
    # A protocol's overloads have no implementation to ask for them by.
    shared = SimpleNamespace(__module__=family.__name__, __qualname__="Function.__call__")
    return [*get_overloads(getattr(functional, name))] or [*get_overloads(shared)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FORWARD)
def test_type_checkers_see_the_signature(name: str) -> None:
    found = parameters(name)
    returned = []
    for overload in overloads_of(name):
        signature = inspect.signature(overload)
        seen = {k: v for k, v in signature.parameters.items() if k != "self"}
        assert list(seen) == list(found)
        for argument, parameter in seen.items():
            assert parameter.kind is found[argument].kind
            has_default = found[argument].default is not Parameter.empty
            of_mask = argument == "return_mask" and len(returned) == 1
            assert (parameter.default is ...) == (has_default and not of_mask)
            if argument != "return_mask":
                assert parameter.annotation == found[argument].annotation
        returned.append((seen["return_mask"].annotation, signature.return_annotation))
    (no, array), (yes, both) = returned
    assert (no, yes, array) == ("Literal[False]", "Literal[True]", "Array")
    assert both.startswith("tuple[Array, ")
