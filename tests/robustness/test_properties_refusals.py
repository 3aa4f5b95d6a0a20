"""Bad input is refused with an error that names it, before anything is written or drawn."""

from __future__ import annotations

import decimal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from guarded import Guarded, dtypes, guarded, shapes
from hypothesis import assume, given
from hypothesis import strategies as st
from support import DTYPES, dtype_of

import fastdrop
from fastdrop.layers.base import Layer
from fastdrop.rng import as_rng

DOCUMENTED = (TypeError, ValueError, RuntimeError, IndexError)
HUGE = 10**5000  # more digits than Python prints
GENERATORS = [fastdrop.ARS4x32, np.random.PCG64, np.random.MT19937]


class Subclass(np.ndarray):
    """An array that could mean anything by its operators."""


nothing_sensible = st.sampled_from(["", "0.5", b"1", [], {}, (), object(), 1j, float, [0.5]])
bad_rates = st.one_of(
    st.floats(max_value=0, exclude_max=True),
    st.floats(min_value=1, exclude_min=True),
    st.sampled_from([np.nan, -5e-324, 1 + 2**-52, 2, -1, HUGE, -HUGE, np.float16(np.inf)]),
    st.sampled_from([np.array([0.5]), np.array("0.5"), np.array(0.5, object), np.array(1j)]),
    st.sampled_from([np.datetime64(1, "s"), np.complex64(0.5), decimal.Decimal("0.5")]),
    st.none() | nothing_sensible,
)
bad_rngs = st.one_of(
    st.sampled_from([-1, -HUGE, 1.5, True, np.float32(1), np.int8(-1), "unheard of", b"philox"]),
    st.sampled_from([np.random, np.random.PCG64, np.random.RandomState(1), [1, 2]]),
    st.just(np.nan) | nothing_sensible,
)
bad_noise_shapes = st.sampled_from(
    [5, "ab", b"ab", (1,) * 9, (1.0,) * 2, (-1, 1), (HUGE, 1), object(), [[1, 1]], (7, 7), {}]
)
bad_dims = st.sampled_from([5, "ab", (0, 0), (-3,), (2,), (0.0,), (HUGE,), object(), [[0]]])
bad_ids = st.sampled_from(
    [5, "abc", [1], [1.0, 2.0, 3.0], [-1, 0, 1], [2**64, 0, 0], [HUGE, 0, 0], [[1], [2, 3], [4]],
     [True, False, True], [None] * 3, np.arange(9).reshape(3, 3), (1, [2, 3]),
     object()]
)  # fmt: skip
bad_arrays = st.one_of(
    st.sampled_from(
        ["i1", "u8", "?", "S3", "U2", "O", "M8[s]", "m8", "V2", "g", "G", [("a", "f4")]]
    ).map(lambda dtype: np.zeros((3, 4), dtype)),
    st.sampled_from([None, 1.0, np.float32(1), [[1.0]], "x", object(), memoryview(b"")]),
    st.sampled_from(
        [np.ma.ones((3, 4)), np.matrix(np.ones((3, 4))), np.ones((3, 4)).view(Subclass),
         np.rec.array(np.ones((3, 4), [("a", "f4")])), np.ma.masked]
    ),
)  # fmt: skip


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Expect a documented error whose message names what was wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of masked arrays
        with pytest.raises(DOCUMENTED, match=name) as caught:
            yield
    assert type(caught.value) in DOCUMENTED
    assert len(str(caught.value)) < 1000


@contextmanager
def nothing_happens(generator: Any, *arrays: Guarded) -> Iterator[None]:
    """Expect that no byte changes, and no generator moves on."""
    rngs = as_rng(generator), fastdrop.rng.default_rng()
    before = [repr(rng.state) for rng in rngs]
    yield
    assert [repr(rng.state) for rng in rngs] == before
    assert all(array.is_untouched() for array in arrays)


def calls(x: np.ndarray, rng: Any, out: Any) -> dict[str, Callable[..., Any]]:
    """Return the operations that take x, p, out and rng, each with defaults for the rest."""
    f = fastdrop

    def options(o: dict[str, Any]) -> dict[str, Any]:
        return {"p": 0.3, "rng": rng, "out": out} | o

    def layer(o: dict[str, Any], **more: Any) -> Any:
        o = options(o)
        return f.Dropout(o["p"], rng=o["rng"], **more)(o.get("x", x), out=o["out"])

    return {
        "dropout": lambda **o: f.dropout(**{"x": x} | options(o)),
        "dropout with a mask": lambda **o: f.dropout(**{"x": x, "return_mask": True} | options(o)),
        "shared": lambda **o: f.dropout(**{"x": x, "broadcast_dims": [0]} | options(o)),
        "layer": lambda **o: layer(o),
        "shared layer": lambda **o: layer(o, broadcast_dims=[0]),
        "dropout_add": lambda **o: f.dropout_add(**{"x": x, "residual": x.copy()} | options(o)),
        "bias_dropout_add": lambda **o: f.bias_dropout_add(
            **{"x": x, "bias": x.copy()} | options(o)
        ),
    }


OPERATIONS = sorted(calls(np.ones(1), None, None))
operations = st.sampled_from(OPERATIONS)


@st.composite
def scenes(draw: Any) -> tuple[Guarded, Any, Guarded]:
    """Draw an input of shape (3, 4), a generator and an output."""
    dtype = draw(dtypes())
    x = draw(guarded((3, 4), dtype, shared=True, tame=True))
    return (
        x,
        draw(st.sampled_from(GENERATORS))(draw(st.integers(0, 99))),
        draw(guarded((3, 4), dtype)),
    )


def run(scene: tuple[Guarded, Any, Guarded], operation: str, name: str, **bad: Any) -> None:
    """Run an operation with a bad argument."""
    x, rng, out = scene
    with nothing_happens(rng, x, out), refused(name):
        calls(x.array, rng, out.array)[operation](**bad)


@given(scene=scenes(), operation=operations, p=bad_rates)
def test_rates(backend: str, scene: Any, operation: str, p: Any) -> None:
    run(scene, operation, "dropout probability has to be .* but got", p=p)


@given(scene=scenes(), operation=operations, rng=bad_rngs)
def test_generators(backend: str, scene: Any, operation: str, rng: Any) -> None:
    run(scene, operation, r"(rng|seed) must be .* but got", rng=rng)


@given(scene=scenes(), operation=operations, x=bad_arrays)
def test_inputs(backend: str, scene: Any, operation: str, x: Any) -> None:
    run(scene, operation, r"^x must (be|have) .* but got", x=x)


@given(scene=scenes(), operation=operations, out=bad_arrays.filter(lambda out: out is not None))
def test_outputs(backend: str, scene: Any, operation: str, out: Any) -> None:
    run(scene, operation, r"^out must (be|have) .* but got", out=out)


@given(
    data=st.data(),
    scene=scenes(),
    operation=operations,
    fault=st.sampled_from(
        ["shape", "dtype", "order", "read-only", "overlaps x", "overlaps itself"]
    ),
)
def test_outputs_that_do_not_suit(
    backend: str, data: Any, scene: Any, operation: str, fault: str
) -> None:
    x, rng, out = scene
    dtype = x.array.dtype
    name = "^out must"
    if fault == "shape":
        shape = data.draw(shapes.filter(lambda shape: shape != (3, 4)))
        out = data.draw(guarded(shape, dtype))
        name = "^out must have x's shape"
    elif fault == "dtype":
        other = data.draw(st.sampled_from(DTYPES).map(dtype_of).filter(lambda d: d != dtype))
        out = data.draw(guarded((3, 4), other))
        name = "^out must have x's dtype"
    elif fault == "order":
        assume(dtype.name != "bfloat16")
        out = data.draw(guarded((3, 4), dtype.newbyteorder("S")))
        name = "^out must have x's dtype"
    elif fault == "read-only":
        out.array.flags.writeable = False
        name = "^out must be writable"
    else:
        size = dtype.itemsize
        both = Guarded((7, 5), dtype, (5 * size, size))
        both.fill(np.arange(35, dtype=np.float32))
        if fault == "overlaps x":
            x = both
            x.array, out.array = both.array[:3, :4], both.array[1:4, 1:]
            name = "overlap"
        else:
            out = both
            out.array = np.lib.stride_tricks.as_strided(both.array, (3, 4), (size, size))
            name = "^out must have memory of its own"
    with nothing_happens(rng, x, out), refused(name):
        calls(x.array, rng, out.array)[operation]()


@given(scene=scenes(), noise_shape=bad_noise_shapes)
def test_noise_shapes(backend: str, scene: Any, noise_shape: Any) -> None:
    run(scene, "dropout", "noise_shape", noise_shape=noise_shape)
    x, rng, out = scene
    with nothing_happens(rng, x, out), refused("noise_shape"):
        fastdrop.Dropout(rng=rng, noise_shape=noise_shape)(x.array, out=out.array)


@given(scene=scenes(), dims=bad_dims)
def test_broadcast_dims(backend: str, scene: Any, dims: Any) -> None:
    run(scene, "dropout", "broadcast_dims", broadcast_dims=dims)
    x, rng, out = scene
    with nothing_happens(rng, x, out), refused("broadcast_dims"):
        fastdrop.Dropout(rng=rng, broadcast_dims=dims)(x.array, out=out.array)


@given(scene=scenes(), ids=bad_ids)
def test_sample_ids(backend: str, scene: Any, ids: Any) -> None:
    run(scene, "dropout", "sample_ids must be", sample_ids=ids, rng=1)


def test_arguments_that_exclude_each_other(backend: str) -> None:
    x = np.ones((3, 4))
    for options, name in [
        ({"noise_shape": (1, 4), "broadcast_dims": (1,)}, "noise_shape and broadcast_dims"),
        ({"noise_shape": (1, 4), "sample_ids": [1, 2, 3]}, "samples must not share a mask"),
        ({"broadcast_dims": (0,), "sample_ids": [1, 2, 3]}, "samples must not share a mask"),
        ({"inplace": True, "out": x.copy()}, "out must be None or x"),
        ({"rng": np.random.MT19937(1), "sample_ids": [1, 2, 3]}, "sample_ids need a generator"),
    ]:
        with refused(name):
            fastdrop.dropout(x, **{"rng": 1} | options)
    assert (x == 1).all()


@given(data=st.data(), scene=scenes(), bad=bad_arrays | shapes.filter(lambda s: s != (3, 4)))
def test_what_a_mask_is_applied_to(backend: str, data: Any, scene: Any, bad: Any) -> None:
    x, rng, out = scene
    layer = fastdrop.Dropout(0.3, rng=rng)
    mask = layer.forward_mask(np.ones((3, 4)))[1]
    samples = fastdrop.dropout(np.ones((3, 4)), rng=1, sample_ids=[1, 2, 3], return_mask=True)[1]
    name = "must (be|have)"
    if isinstance(bad, tuple):
        bad, name = np.ones(bad), "must have (the mask's|the forward's|x's|grad's) shape"
    for operation in (
        mask.apply,
        samples.apply,
        layer.backward,
        lambda grad: fastdrop.dropout_backward(grad, mask),
        lambda grad: fastdrop.relu_dropout_backward(grad, np.ones((3, 4)), mask),
    ):
        with nothing_happens(rng, x, out), refused(name):
            operation(bad)
    with nothing_happens(rng, x, out), refused("out must"):
        mask.apply(x.array, out=bad if bad is not None else 1)


@given(mask=st.none() | nothing_sensible | bad_arrays)
def test_masks_of_another_kind(mask: Any) -> None:
    for function in (
        fastdrop.dropout_backward,
        lambda grad, mask: fastdrop.relu_dropout_backward(grad, grad, mask),
    ):
        with refused("mask must be a fastdrop.Mask"):
            function(np.ones(3), mask)


@given(
    rows=st.sampled_from(
        [3, -4, 1.5, "a", (..., ...), (0, 1, 2), [0], np.bool_(True), HUGE, np.array([0]), True,
         (0, 4), slice(None, None, -1), slice("a"), slice(1.5), slice(None, None, 0)]
    )
)  # fmt: skip
def test_rows_of_masks(rows: Any) -> None:
    mask = fastdrop.dropout(np.ones((3, 4)), rng=1, return_mask=True)[1]
    with refused(r"row|slice|indices|indexed|Ellipsis"):
        mask[rows]


@given(data=st.data(), scene=scenes())
def test_operands(backend: str, data: Any, scene: Any) -> None:
    """Residuals and biases of the wrong kind, dtype or shape, or that `out` overlaps."""
    x, rng, out = scene
    name = data.draw(st.sampled_from(["residual", "bias"]))
    function = fastdrop.dropout_add if name == "residual" else fastdrop.bias_dropout_add
    fault = data.draw(st.sampled_from(["kind", "dtype", "shape", "overlap"]))
    operand, message = out.array[:1], "out must be .* or not overlap"
    if fault == "kind":
        operand, message = data.draw(bad_arrays), rf"^{name} must"
    elif fault == "dtype":
        other = data.draw(
            st.sampled_from(DTYPES).map(dtype_of).filter(lambda d: d != x.array.dtype)
        )
        operand, message = np.ones((3, 4), other), rf"^{name} must have x's dtype"
    elif fault == "shape":
        shape = data.draw(st.sampled_from([(4, 3), (3,), (2, 3, 4), (0,), (3, 4, 1)]))
        operand, message = np.ones(shape, x.array.dtype), rf"^{name} must have x's shape"
    with nothing_happens(rng, x, out), refused(message):
        function(x.array, operand, p=0.3, rng=rng, out=out.array)


@given(samples=st.sampled_from([-1, -HUGE, 1.5, "3", None, True, [1], HUGE, 2**70, 2**62, 2**60]))
def test_numbers_of_samples(samples: Any) -> None:
    rng = fastdrop.ARS4x32(1)
    x = Guarded((3,), np.dtype(np.float64), (8,))
    with nothing_happens(rng, x), refused("samples must be"):
        fastdrop.mc_dropout(x.array, samples, rng=rng)


@given(
    rng=st.sampled_from([fastdrop.ARS4x32, fastdrop.PCG64, np.random.SFC64]),
    number=st.sampled_from([-1, -HUGE, 1.5, "3", True, [1], HUGE, 2**64, 2**61]),
)
def test_numbers_of_words_and_children(rng: Any, number: Any) -> None:
    source = as_rng(rng(1))
    with nothing_happens(source), refused("size must be"):
        source.random_raw(number)
    if number not in (HUGE, 2**64, 2**61):  # as many as memory can hold, for a while
        with nothing_happens(source), refused("n_children must be"):
            source.spawn(number)


@given(seed=st.sampled_from([-1, 1.5, "3", b"3", True, [1, -2], [1.5], [None], {}, object(), 1j]))
def test_seeds(seed: Any) -> None:
    for function in (fastdrop.ARS4x32, fastdrop.manual_seed, fastdrop.PCG64(1).reseed):
        with nothing_happens(None), refused("seed must be"):
            function(seed)


@given(n=st.sampled_from([0, -1, 257, HUGE, 1.5, "3", True, None, [1]]))
def test_numbers_of_threads(n: Any) -> None:
    before = fastdrop.get_num_threads()
    with refused("n must be"):
        fastdrop.set_num_threads(n)
    assert fastdrop.get_num_threads() == before


@given(name=st.sampled_from(["", "Cython", "cuda", None, 1.5, [], {}, HUGE]))
def test_names_of_backends(name: Any) -> None:
    before = fastdrop.get_backend()
    with refused("backend must be one of"):
        fastdrop.set_backend(name)
    with refused("backend must be one of"), fastdrop.use_backend(name):
        pass
    assert fastdrop.get_backend() == before


@given(
    address=st.sampled_from([0, -1, 2**64, HUGE, 1.5, None, "a", True]) | st.integers(max_value=-1),
    key_words=st.sampled_from([0, -1, 2**40, HUGE, 1.5, None, "a", True]),
)
def test_what_capsules_are_made_of(address: Any, key_words: Any) -> None:
    with refused("address must"):
        fastdrop.make_capsule(address, 1)
    with refused("key_words must"):
        fastdrop.make_capsule(1, key_words)


RANKS = {
    fastdrop.DropBlock2d: 4,
    fastdrop.Dropout2d: 4,
    fastdrop.SpatialDropout2D: 4,
    fastdrop.Dropout3d: 5,
    fastdrop.SpatialDropout3D: 5,
}
WITH_RATES = [
    cls
    for cls in (getattr(fastdrop, name) for name in fastdrop.__all__)
    if isinstance(cls, type) and issubclass(cls, Layer) and hasattr(cls, "p")
]


@given(data=st.data(), p=bad_rates, x=bad_arrays)
def test_the_family(backend: str, data: Any, p: Any, x: Any) -> None:
    """Constructors refuse rates, setters leave the rate before, and calls refuse arrays."""
    cls = data.draw(st.sampled_from(WITH_RATES))
    with refused("dropout probability"):
        cls(p, rng=1)
    layer = cls(0.25, rng=1)
    with refused("dropout probability"):
        layer.p = p
    assert layer.p == 0.25
    state = layer.state_dict()
    with nothing_happens(layer.rng), refused("^x must"):
        layer(x)
    ones = np.ones((2, 3, 4, 5, 6)[: RANKS.get(cls, 3)])
    with nothing_happens(layer.rng), refused("^out must"):
        layer(ones, out=1 if x is None else x)
    assert layer.state_dict() == state
    assert layer.mask is None if hasattr(layer, "mask") else True
    with refused("backward needs a forward"):
        layer.backward(ones)
