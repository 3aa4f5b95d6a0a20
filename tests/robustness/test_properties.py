"""Every operation, on arrays of any layout between guard bytes, equals the reference.

The reference runs the same operation on plain copies, and is compared bit for
bit; inputs, and all that lies around inputs and outputs, has to be untouched.
FASTDROP_EXAMPLES=1000 tries more than the tests of every day do.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from guarded import Guarded, dtypes, guarded, native, same, shapes, strides_of, values_of
from hypothesis import assume, given
from hypothesis import strategies as st
from support import POISON, poisoned

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK
from fastdrop.rng import as_rng

GENERATORS = [
    fastdrop.ARS4x32,
    fastdrop.Philox,
    fastdrop.PCG64,
    np.random.PCG64,
    np.random.Philox,
    np.random.MT19937,
]
# From all but 0 to all but 1, and what a float or a 0-d array can be.
rates = st.floats(0, 1) | st.sampled_from(
    [0.0, -0.0, 5e-324, 2**-41, 2**-40, 1e-9, 1 / 256, 0.1, 0.25, 0.5, 0.75, 0.9, 1 - 2**-40,
     1 - 2**-41, 1 - 2**-53, 1.0, 0, 1, True, np.float16(0.3), np.float32(0.1), np.float64(0.7),
     np.longdouble(0.2), np.int8(1), np.array(0.5), np.array(0.5, np.float16)]
)  # fmt: skip
seeds = st.integers(0, 1 << 70)


@st.composite
def outputs(draw: Any, x: Guarded) -> tuple[str, Guarded | None]:
    """Draw where a result goes: a new array, an array of some layout, or x itself."""
    where = draw(st.sampled_from(["new", "out", "out is x", "in place"]))
    if where == "out":
        shape, dtype = x.array.shape, x.array.dtype
        return where, Guarded(shape, dtype, draw(strides_of(shape, dtype.itemsize)))
    return where, None


def run(
    operation: Callable[..., np.ndarray], x: Guarded, where: str, out: Guarded | None
) -> np.ndarray:
    """Run an operation, and check that it wrote to its output only."""
    if where == "in place":
        y = operation(x.array, inplace=True)
    else:
        y = operation(x.array, out=x.array if where == "out is x" else out and out.array)
    if where in ("in place", "out is x"):
        assert y is x.array
        assert x.is_untouched_around()
        return y
    if out is not None:
        assert y is out.array
        assert out.is_untouched_around()
    else:
        assert type(y) is np.ndarray
        assert y is x.array or not np.shares_memory(y, x.array)
    assert x.is_untouched()
    return y


def no_shared(x: Guarded, where: str) -> bool:
    """Whether an output may be there: x holds each of its elements once."""
    return where in ("new", "out") or all(
        s for s, n in zip(x.array.strides, x.array.shape, strict=True) if n > 1
    )


@given(data=st.data(), dtype=dtypes())
def test_the_guards_notice(data: Any, dtype: Any) -> None:
    """One changed bit, in an element, between two or beside them all."""
    x = data.draw(guarded((3, 4), dtype))
    at = data.draw(st.integers(0, x.buffer.size - 1))
    x.buffer[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not x.is_untouched()
    own = Guarded((3, 4), dtype, x.array.strides)
    assert own.is_untouched_around()
    own.array[1, 2] = 0
    assert own.is_untouched_around()
    own.buffer[data.draw(st.sampled_from([0, -1]))] = 0
    assert not own.is_untouched_around()
    a = native(x.array)
    b = a.copy()
    b.reshape(-1).view(np.uint8)[data.draw(st.integers(0, a.nbytes - 1))] ^= 1
    assert same(a, a)
    assert not same(a, b)


# Dropout, its mask and its backward.


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_dropout(backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int) -> None:
    make = data.draw(st.sampled_from(GENERATORS))
    x = data.draw(guarded(shape, dtype, shared=True))
    where, out = data.draw(outputs(x))
    assume(no_shared(x, where))
    plain, rng, twin = native(x.array), make(seed), make(seed)
    masks = []

    def operation(x: np.ndarray, **options: Any) -> np.ndarray:
        y, mask = fastdrop.dropout(x, p, rng=rng, return_mask=True, **options)
        masks.append(mask)
        return y

    y = run(operation, x, where, out)
    with fastdrop.use_backend("reference"):
        expected, mask = fastdrop.dropout(plain, p, rng=twin, return_mask=True)
        bits = mask.to_bool()
    assert same(y, expected)
    assert masks[0] == mask
    np.testing.assert_array_equal(masks[0].to_bool(), bits)
    assert repr(as_rng(rng).state) == repr(as_rng(twin).state)


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_layer_and_backward(
    backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int
) -> None:
    """Forward on one layout, backward on another and of another dtype."""
    layer, twin = fastdrop.Dropout(p, rng=seed), fastdrop.Dropout(p, rng=seed)
    x = data.draw(guarded(shape, dtype, shared=True))
    where, out = data.draw(outputs(x))
    assume(no_shared(x, where))
    plain = native(x.array)

    def operation(x: np.ndarray, out: Any = None, inplace: bool = False) -> np.ndarray:
        layer.inplace = inplace
        return layer(x, out=out)

    y = run(operation, x, where, out)
    grad = data.draw(guarded(shape, data.draw(dtypes()), shared=True))
    with fastdrop.use_backend("reference"):
        assert same(y, twin(plain))
        expected = twin.backward(native(grad.array))
    assert same(layer.backward(grad.array), expected)
    assert grad.is_untouched()
    assert layer.mask == twin.mask


@given(data=st.data(), shape=shapes, p=rates, seed=seeds)
def test_slices_of_masks(backend: str, data: Any, shape: Any, p: Any, seed: int) -> None:
    """Rows of rows, applied, packed and as bools, are those of the whole."""
    assume(shape)
    mask = fastdrop.dropout(np.ones(shape, np.float32), p, rng=seed, return_mask=True)[1]
    with fastdrop.use_backend("reference"):
        whole = mask.to_bool()
    for _ in range(data.draw(st.integers(0, 4))):
        if not whole.ndim or not whole.shape[0]:
            break
        bounds = st.none() | st.integers(-whole.shape[0] - 2, whole.shape[0] + 2)
        rows = data.draw(
            st.integers(-whole.shape[0], whole.shape[0] - 1) | st.builds(slice, bounds, bounds)
        )
        mask, whole = mask[rows], whole[rows]
    whole = np.asarray(whole)
    assert mask.shape == whole.shape
    np.testing.assert_array_equal(mask.to_bool(), whole)
    np.testing.assert_array_equal(mask.to_packed(), np.packbits(whole, bitorder="little"))
    x = data.draw(guarded(whole.shape, data.draw(dtypes()), shared=True))
    with fastdrop.use_backend("reference"):
        expected = mask.apply(native(x.array))
    assert same(mask.apply(x.array), expected)
    assert x.is_untouched()


@given(
    first=st.integers(0, 1 << 62) | st.integers(0, 3 * BLOCK),
    n=st.integers(0, 2 * BLOCK + 9),
    shift=st.integers(0, 9),
    p=rates,
)
def test_packed_bits_keep_to_their_bytes(
    backend: str, first: int, n: int, shift: int, p: Any
) -> None:
    draw = Draw(*fastdrop.PCG64(3).reserve(0), fastdrop.mask_format.rate(p), first)
    size = -(-n // 8)
    images = []
    for name in (backend, "reference"):
        buffer = poisoned((64 + shift + size + 64,), np.uint8)
        with fastdrop.use_backend(name):
            fastdrop.backends.current().bits(draw, n, buffer[64 + shift :][:size])
        images.append(buffer)
    np.testing.assert_array_equal(*images)
    assert (images[0][: 64 + shift] == POISON).all()
    assert (images[0][64 + shift + size :] == POISON).all()


# Shared masks and masks by sample.


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_shared_masks(backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int) -> None:
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1))) if shape else set()
    noise = [1 if axis in axes else n for axis, n in enumerate(shape)]
    said = data.draw(
        st.sampled_from(
            [
                {"noise_shape": noise},
                {"noise_shape": np.array(noise, np.int32)},
                {"broadcast_dims": axes},
                {"broadcast_dims": np.array([a - len(shape) for a in axes], np.int64)},
            ]
        )
    )
    x = data.draw(guarded(shape, dtype, shared=True))
    where, out = data.draw(outputs(x))
    assume(no_shared(x, where))
    plain = native(x.array)
    y = run(lambda x, **o: fastdrop.dropout(x, p, rng=seed, **said, **o), x, where, out)
    with fastdrop.use_backend("reference"):
        expected = fastdrop.dropout(plain, p, rng=seed, noise_shape=noise)
        kept = fastdrop.dropout(np.ones(noise), p, rng=seed)
    assert same(y, expected)
    ones = fastdrop.dropout(np.ones(shape), p, rng=seed, **said)
    np.testing.assert_array_equal(ones, np.broadcast_to(kept, shape))


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_masks_by_sample(
    backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int
) -> None:
    assume(shape and shape[0] <= 70)
    x = data.draw(guarded(shape, dtype, shared=True))
    ids = np.random.default_rng(data.draw(seeds)).integers(0, 1 << 40, shape[0])
    where, out = data.draw(outputs(x))
    assume(no_shared(x, where))
    plain = native(x.array)
    y = run(lambda x, **o: fastdrop.dropout(x, p, rng=seed, sample_ids=ids, **o), x, where, out)
    with fastdrop.use_backend("reference"):
        expected, mask = fastdrop.dropout(plain, p, rng=seed, sample_ids=ids, return_mask=True)
    assert same(y, expected)
    np.testing.assert_array_equal(
        fastdrop.dropout(plain, p, rng=seed, sample_ids=ids, return_mask=True)[1].to_bool(),
        mask.to_bool(),
    )


# The family.


def layers_for(shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Callable[..., Any]]:
    """Return constructors of the layers that take such an input."""
    ndim, real = len(shape), dtype.kind != "c"
    takes = {
        "DropConnect": True,
        "Dropout1d": ndim in (2, 3),
        "Dropout2d": ndim in (3, 4),
        "Dropout3d": ndim == 4,
        "DropPath": ndim >= 1,
        "SpatialDropout1D": ndim == 3,
        "SpatialDropout2D": ndim == 4,
        "AlphaDropout": real,
        "FeatureAlphaDropout": real and ndim >= 2,
        "GaussianDropout": real,
        "GaussianNoise": real,
        "DropBlock2d": ndim == 4,
    }
    return {name: getattr(fastdrop, name) for name, does in takes.items() if does}


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_family(backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int) -> None:
    layers = layers_for(shape, dtype)
    name = data.draw(st.sampled_from(sorted(layers)))
    if name == "GaussianDropout":
        assume(float(p) < 1)
    settings = {} if name == "GaussianNoise" else {"p": p}
    if name == "DropBlock2d":
        settings["block_size"] = data.draw(st.integers(1, 4))
    layer, twin = (layers[name](**settings, rng=seed) for _ in range(2))
    tame = name in ("AlphaDropout", "FeatureAlphaDropout", "GaussianDropout", "GaussianNoise")
    x = data.draw(guarded(shape, dtype, shared=True, tame=tame))
    where, out = data.draw(outputs(x))
    assume(no_shared(x, where))
    plain = native(x.array)

    def operation(x: np.ndarray, out: Any = None, inplace: bool = False) -> np.ndarray:
        layer.inplace = inplace
        return layer(x, out=out)

    grad = data.draw(guarded(shape, dtype, shared=True, tame=tame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of ranks, as torch's
        y = run(operation, x, where, out)
        with fastdrop.use_backend("reference"):
            assert same(y, twin(plain))
            expected = twin.backward(native(grad.array))
    assert same(layer.backward(grad.array), expected)
    assert grad.is_untouched()
    assert repr(layer.state_dict()["rng"]) == repr(twin.state_dict()["rng"])


# Fused forms.


@st.composite
def operands(draw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Guarded:
    """Draw an array that broadcasts to a shape."""
    lost = draw(st.integers(0, len(shape)))
    kept = tuple(n if draw(st.booleans()) else 1 for n in shape[lost:])
    return draw(guarded(kept, dtype, shared=True))


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_fused_forms(backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int) -> None:
    kinds = ["dropout_add", "bias_dropout_add", "bias_dropout_add with residual"]
    kind = data.draw(st.sampled_from([*kinds, *([] if dtype.kind == "c" else ["relu_dropout"])]))
    function = getattr(fastdrop, kind.split()[0])
    x = data.draw(guarded(shape, dtype, shared=True))
    count = {"relu_dropout": 0, kinds[2]: 2}.get(kind, 1)
    given_operands = [data.draw(operands(shape, dtype)) for _ in range(count)]
    where = data.draw(st.sampled_from(["new", "out", "out is x"]))
    assume(no_shared(x, where))
    out = Guarded(shape, dtype, data.draw(strides_of(shape, dtype.itemsize)))
    plain = [native(a.array) for a in (x, *given_operands)]

    def operation(x: np.ndarray, out: Any = None) -> np.ndarray:
        arrays = [a.array for a in given_operands]
        return function(x, *arrays, p=p, rng=seed, out=out)

    y = run(operation, x, where, out if where == "out" else None)
    with fastdrop.use_backend("reference"):
        expected = function(*plain, p=p, rng=seed)
    assert same(y, expected, any_nan=True)  # which of two NaNs a sum keeps is open
    assert all(a.is_untouched() for a in given_operands)


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, seed=seeds)
def test_relu_backward(backend: str, data: Any, shape: Any, dtype: Any, p: Any, seed: int) -> None:
    assume(dtype.kind != "c")
    x, grad = (data.draw(guarded(shape, dtype, shared=True)) for _ in range(2))
    mask = fastdrop.relu_dropout(x.array, p, rng=seed, return_mask=True)[1]
    out = Guarded(shape, dtype, data.draw(strides_of(shape, dtype.itemsize)))
    y = fastdrop.relu_dropout_backward(grad.array, x.array, mask, out=out.array)
    with fastdrop.use_backend("reference"):
        expected = fastdrop.relu_dropout_backward(native(grad.array), native(x.array), mask)
    assert y is out.array
    assert same(y, expected)
    assert out.is_untouched_around()
    assert x.is_untouched()
    assert grad.is_untouched()


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates, samples=st.integers(0, 3))
def test_mc_dropout(backend: str, data: Any, shape: Any, dtype: Any, p: Any, samples: int) -> None:
    x = data.draw(guarded(shape, dtype, shared=True))
    full = (samples, *shape)
    out = Guarded(full, dtype, data.draw(strides_of(full, dtype.itemsize)))
    y = fastdrop.mc_dropout(x.array, samples, p, rng=5, out=out.array)
    with fastdrop.use_backend("reference"):
        expected = fastdrop.mc_dropout(native(x.array), samples, p, rng=5)
    assert y is out.array
    assert same(y, expected)
    assert out.is_untouched_around()
    assert x.is_untouched()


# Files.


@given(data=st.data(), shape=shapes, dtype=dtypes(), mode=st.sampled_from(["r", "r+", "c"]))
def test_memory_mapped_files(
    backend: str, data: Any, shape: Any, dtype: Any, mode: str, tmp_path: Any
) -> None:
    """Read-only, shared and copy-on-write maps, at any place in a file."""
    path, offset = tmp_path / "x", data.draw(st.integers(0, 70))
    n = math.prod(shape)
    assume(n)
    values = np.resize(data.draw(values_of(dtype)), n).astype(dtype)
    before = bytes([POISON]) * offset + values.tobytes() + bytes([POISON]) * 64
    path.write_bytes(before)
    x = np.memmap(path, dtype, mode, offset, shape)
    plain = native(x)
    y = fastdrop.dropout(x, 0.3, rng=1)
    assert type(y) is np.ndarray
    with fastdrop.use_backend("reference"):
        expected = fastdrop.dropout(plain, 0.3, rng=1)
    assert same(y, expected)
    if mode == "r":
        with pytest.raises(ValueError, match="read-only"):
            fastdrop.dropout(x, 0.3, inplace=True, rng=1)
    else:
        assert fastdrop.dropout(x, 0.3, inplace=True, rng=1) is x
        assert same(x, expected)
        x.flush()
    after = path.read_bytes()
    assert after[:offset] == before[:offset]
    assert after[-64:] == before[-64:]
    assert (after == before) == (mode != "r+" or native(x).tobytes() == plain.tobytes())


@given(data=st.data(), shape=shapes, dtype=dtypes(), p=rates)
def test_read_only_inputs(backend: str, data: Any, shape: Any, dtype: Any, p: Any) -> None:
    x = data.draw(guarded(shape, dtype))
    x.array.flags.writeable = False
    layer = fastdrop.Dropout(p, rng=1)
    y = layer(x.array)
    with fastdrop.use_backend("reference"):
        expected = fastdrop.Dropout(p, rng=1)(native(x.array))
    assert same(y, expected)
    state = copy.deepcopy(layer.state_dict())
    for options in ({"inplace": True}, {"out": x.array}):
        if float(p) == 0 and "inplace" in options:
            continue  # the identity writes nothing
        with pytest.raises(ValueError, match="read-only"):
            fastdrop.dropout(x.array, p, rng=layer.rng, **options)
    assert x.is_untouched()
    assert layer.state_dict() == state
