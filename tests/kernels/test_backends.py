"""Every backend equals the reference bit for bit, whatever the array looks like."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from guarded import dtypes
from hypothesis import given
from hypothesis import strategies as st
from support import DTYPES, any_bits, check, contents, dtype_of, packed, poisoned, reference

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK
from fastdrop.masks.mask import Mask

GENERATORS = [
    fastdrop.ARS4x32,
    fastdrop.Philox4x32,
    fastdrop.Philox,
    fastdrop.PCG64,
    np.random.PCG64,
    np.random.Philox,
    np.random.MT19937,
    np.random.SFC64,
    np.random.PCG64DXSM,
]


# Generators, threads.


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("cls", GENERATORS)
def test_generators(backend: str, threads: int, cls: Any, p: float) -> None:
    rng = cls(1)
    for shape in ((5 * BLOCK + 3,), (70, 70), (1,)):
        check(any_bits(shape, np.float32), p, rng)
        check(any_bits(shape, np.float32).T, p, rng)


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128"])
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_threads(backend: str, threads: int, p: float, dtype: str) -> None:
    """Enough elements for a backend to share them out."""
    x = any_bits((1025, 1031), dtype)
    check(x, p)
    check(x, p, out=x.copy())
    mask = check(x.T, p)
    bits = packed(mask[3:])
    with fastdrop.use_backend("reference"):
        np.testing.assert_array_equal(bits, packed(mask[3:]))


@given(p=st.floats(0, 1, exclude_min=True), n=st.integers(0, 3 * BLOCK), seed=st.integers(0, 2**64))
def test_any_rate_and_size(backend: str, p: float, n: int, seed: int) -> None:
    check(any_bits((n,), np.float32), p, fastdrop.PCG64(seed))


@given(
    first=st.integers(0, 2**40),
    n=st.integers(0, 2 * BLOCK),
    p=st.sampled_from([0.5, 0.25, 0.1]),
)
def test_any_part_of_a_huge_mask(backend: str, first: int, n: int, p: float) -> None:
    mask = Mask(Draw(*fastdrop.ARS4x32(1).reserve(0), fastdrop.mask_format.rate(p), first), (n,))
    bits = packed(mask)
    x = any_bits((n,), np.float16)
    assert contents(mask.apply(x)) == contents(reference(mask, x))
    with fastdrop.use_backend("reference"):
        np.testing.assert_array_equal(bits, packed(mask))


# What the elements are.


@pytest.mark.parametrize("p", [0.5, 0.3, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_bit_pattern(backend: str, dtype: str, p: float) -> None:
    """NaNs with payloads, infinities, -0 and subnormals, among all others."""
    check(any_bits((3 * BLOCK + 5,), dtype_of(dtype)), p)


@pytest.mark.parametrize("p", [0.5, 0.3, 1e-12, 1 - 2**-20, 0.1, 0.2, 0.4, 0.6, 0.75])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_pattern_of_the_half_types(backend: str, dtype: str, p: float) -> None:
    """With scales whose products lie halfway between two numbers, nearly so, or never."""
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype_of(dtype))
    kept = np.zeros(x.size, bool)
    for seed in range(24):
        kept |= np.asarray(check(x, p, seed))
    assert kept.all() or p > 0.5  # each pattern has been multiplied


@pytest.mark.parametrize("units", [0.0, 0.9, -0.9, 1.1, -1.1])
def test_bfloat16_next_to_a_half(backend: str, units: float) -> None:
    """Float32 rounds 5 * scale to 6.5 if it is at most a unit, 2**-17, from it; not beyond."""
    scale = (6.5 + units * 2**-17) / 5
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype_of("bfloat16"))
    assert any(np.asarray(check(x, 1 - 1 / scale, seed))[5] for seed in range(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, -0.0, 0.0])
def test_dropped_is_plus_zero_and_kept_is_scaled(backend: str, dtype: str, special: float) -> None:
    x = np.full(999, special, np.float32).astype(dtype_of(dtype))
    y, mask = fastdrop.dropout(x, 0.5, rng=1, return_mask=True)
    kept = np.asarray(mask)
    assert 0 < kept.sum() < kept.size
    assert not any(contents(y[~kept]))
    parts = y[kept].view(y.real.dtype).astype(np.float64)
    real = parts[:: 2 if np.iscomplexobj(x) else 1]
    np.testing.assert_array_equal(real, special * 2)
    assert (np.signbit(real) == np.signbit(special)).all() or np.isnan(special)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormals_are_not_flushed(backend: str, dtype: str) -> None:
    x = np.full(999, np.finfo(dtype).smallest_subnormal)
    y, mask = fastdrop.dropout(x, 0.5, rng=1, return_mask=True)
    assert (y[np.asarray(mask)] == 2 * x[0]).all()


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_mask_is_the_same_for_all_dtypes(backend: str, p: float) -> None:
    masks = [fastdrop.dropout(np.ones(2000, dtype_of(dtype)), p, rng=3) != 0 for dtype in DTYPES]
    assert all((mask == masks[0]).all() for mask in masks)
    assert 0 < masks[0].sum() < 2000


# How the elements lie.


def misaligned(x: np.ndarray) -> np.ndarray:
    """Return a copy that begins one byte past an aligned address."""
    buffer = np.zeros(x.nbytes + 16, np.uint8)
    copy = buffer[1 : 1 + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def swapped(x: np.ndarray) -> np.ndarray:
    """Return the same numbers in the foreign byte order."""
    return x.astype(x.dtype.newbyteorder("S"))


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: x,
    "F": np.asfortranarray,
    "transposed": lambda x: x.transpose(2, 0, 1),
    "every second": lambda x: x[::2, :, ::2],
    "columns": lambda x: x[:, 1:-1, 3:],
    "negative": lambda x: x[::-1, :, ::-1],
    "negative F": lambda x: np.asfortranarray(x)[::-1, ::-2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1, :], x.shape),
    "broadcast scalar": lambda x: np.broadcast_to(x[0, 0, 0, ...], x.shape),
    "empty": lambda x: x[:, :0],
    "0-d": lambda x: x[1, 1, 1, ...],
    "1 element": lambda x: x[1:2, 1:2, 1:2],
    "misaligned": misaligned,
    "misaligned and transposed": lambda x: misaligned(x).T,
    "read-only": read_only,
    "diagonal": lambda x: np.lib.stride_tricks.as_strided(
        x, (7, 11), (x.strides[0] + x.strides[1], x.strides[2])
    ),
}


@pytest.mark.parametrize("p", [0.5, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend: str, layout: str, dtype: str, p: float) -> None:
    view = LAYOUTS[layout](any_bits((19, 17, 37), dtype_of(dtype)))
    mask = check(view, p)
    check(view, p, out=poisoned(view.shape, view.dtype))
    # The mask depends on the logical index only.
    assert mask == check(view.copy(order="C"), p)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["F", "transposed", "every second", "negative", "misaligned"])
def test_layouts_of_out(backend: str, layout: str, dtype: str) -> None:
    x = any_bits((19, 17, 37), dtype_of(dtype))
    whole = poisoned(x.shape, x.dtype)
    view = LAYOUTS[layout](whole)
    source = np.ascontiguousarray(LAYOUTS[layout](x))
    check(source, 0.3, out=view)
    check(LAYOUTS[layout](x.copy()), 0.3, out=view)
    if layout == "every second":  # what lies between is left alone
        assert contents(whole[1::2]) == contents(poisoned(whole[1::2].shape, x.dtype))
        assert contents(whole[::2, :, 1::2]) == contents(
            poisoned(whole[::2, :, 1::2].shape, x.dtype)
        )


@pytest.mark.parametrize(
    "layout", ["C", "F", "transposed", "every second", "negative", "misaligned"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(backend: str, dtype: str, layout: str) -> None:
    view = LAYOUTS[layout](any_bits((19, 17, 37), dtype_of(dtype)))
    before = view.copy()
    y, mask = fastdrop.dropout(view, 0.3, inplace=True, rng=1, return_mask=True)
    assert y is view
    assert contents(y) == contents(reference(mask, before))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bfloat16"])
def test_foreign_byte_order(backend: str, dtype: str, layout: str) -> None:
    native = np.arange(19 * 17 * 37).reshape(19, 17, 37).astype(dtype)
    view = LAYOUTS[layout](swapped(native))
    assert not view.dtype.isnative
    mask = check(view)
    expected = reference(mask, view.astype(dtype))
    y = mask.apply(view)
    assert y.dtype == view.dtype
    np.testing.assert_array_equal(y, expected)
    check(view, out=poisoned(view.shape, view.dtype))


def test_four_axes_in_every_order(backend: str) -> None:
    x = any_bits((5, 6, 7, 8), np.float32)
    for axes in itertools.permutations(range(4)):
        check(x.transpose(axes))
        check(x[::-1, :, ::2].transpose(axes))
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert fastdrop.dropout(channels_last, rng=1).strides == channels_last.strides


@pytest.mark.parametrize("shape", [(4161, 131), (65, 8263), (130, 4120), (3, 1100, 170)])
def test_transposed_arrays_of_several_bands(
    backend: str, threads: int, shape: tuple[int, ...]
) -> None:
    """Their bits are made for some rows and columns at a time."""
    x = any_bits(shape, np.float16)
    check(np.asfortranarray(x), 0.3)
    check(x.transpose(), 0.5)


@pytest.mark.parametrize("channels", [2, 3, 5, 8, 9, 33, 63, 64, 65])
def test_channels_last(backend: str, threads: int, channels: int) -> None:
    """Few channels, one after the other in memory, are many short columns of the mask."""
    for pixels in (7, 64, 4163, 9000):
        x = any_bits((3, pixels, channels), np.float32).transpose(0, 2, 1)
        check(x, 0.3)
        check(x[:, :, ::-1], 0.3)
        check(x[:, 1:], 0.3)
    rng, u = np.random.default_rng(1), np.empty_like(x)
    u[...], x[...] = rng.normal(size=u.shape), rng.normal(size=x.shape)
    sum_in_c_order = fastdrop.dropout_add(x.copy("C"), u.copy("C"), 0.3, rng=1)
    np.testing.assert_array_equal(fastdrop.dropout_add(x, u, 0.3, rng=1), sum_in_c_order)


def test_more_axes_than_loops(backend: str) -> None:
    x = any_bits((2,) * 12 + (3,), np.float32)
    for view in (x, x.T, x[..., ::-1], x.transpose([*range(1, 13), 0]), x[:, ::-1, :, 1:]):
        check(view)


def test_as_many_axes_as_numpy_has(backend: str) -> None:
    x = any_bits((2, 3), np.float32).reshape(2, *[1] * 62, 3)
    check(x)
    check(x.T)


@st.composite
def views(draw: Any) -> np.ndarray:
    """Draw a view with any strides: sliced, flipped, transposed, broadcast."""
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    x = any_bits(shape, draw(dtypes(swapped=False)), draw(st.integers(0, 99)))
    slices = tuple(
        slice(draw(st.integers(0, 2)), None, draw(st.sampled_from([1, 1, 2, 3])))
        if draw(st.booleans())
        else slice(None, None, draw(st.sampled_from([1, -1, -2])))
        for _ in shape
    )
    x = x[(*slices, ...)]
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()):
        x = misaligned(x)
    if draw(st.booleans()):
        x = np.broadcast_to(x, (draw(st.integers(0, 4)), *x.shape))
    return x


@given(
    x=views(),
    p=st.sampled_from([0.5, 0.3, 0.0625, 0.99]),
    order=st.sampled_from("CFK"),
    cls=st.sampled_from(GENERATORS),
)
def test_any_view(backend: str, x: np.ndarray, p: float, order: Any, cls: Any) -> None:
    check(x, p, cls(5))
    check(x, p, cls(5), out=np.full_like(x, 1, order=order, subok=False))


@pytest.mark.parametrize("layout", ["C", "F", "every second", "misaligned"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_written_past_the_ends(backend: str, dtype: str, layout: str) -> None:
    guard = 256
    for n in (0, 1, 3, 31, 200, 4099):
        x = any_bits((n,), dtype_of(dtype))
        buffer = poisoned((guard + x.nbytes + 1 + guard,), np.uint8)
        offset = guard + (layout == "misaligned")
        out = buffer[offset : offset + x.nbytes].view(x.dtype)
        check(x, out=out)
        assert contents(buffer[:offset]) == contents(poisoned((offset,), np.uint8))
        rest = buffer[offset + x.nbytes :]
        assert contents(rest) == contents(poisoned(rest.shape, np.uint8))
        bits = poisoned((guard + n // 8 + 1,), np.uint8)
        size = -(-n // 8)
        mask = fastdrop.dropout(x, 0.5, rng=1, return_mask=True)[1]
        fastdrop.backends.current().bits(mask._draw, n, bits[:size])
        assert (bits[size:] == 0xA5).all()
