"""Mask: evaluating, slicing, packing, comparing."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DTYPES, any_bits, contents, dtype_of, poisoned

import fastdrop
from fastdrop import Mask
from fastdrop.mask_format import BLOCK


def mask_of(shape: tuple[int, ...], p: float = 0.3, rng: Any = 1) -> Mask:
    return fastdrop.dropout(np.ones(shape, np.float16), p, rng=rng, return_mask=True)[1]


# What it says of itself.


def test_attributes() -> None:
    mask = mask_of((4, 5, 6), 0.75)
    assert (mask.shape, mask.ndim, mask.size, len(mask)) == ((4, 5, 6), 3, 120, 4)
    assert (mask.p, mask.scale) == (0.75, 4.0)
    assert repr(mask) == "Mask(shape=(4, 5, 6), p=0.75, rng='ars4x32')"
    assert "sequential" in repr(mask_of((4,), rng=np.random.SFC64(1)))


def test_no_rows_without_dimensions() -> None:
    mask = mask_of(())
    assert np.asarray(mask).shape == ()
    with pytest.raises(TypeError, match="0 dimensions has no length"):
        len(mask)
    with pytest.raises(IndexError, match="0 dimensions has no rows"):
        mask[0]


# Evaluating it.


@pytest.mark.parametrize("p", [0.5, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (8,), (3, 5), (2, 3, BLOCK - 1)])
def test_all_forms_agree(backend: str, shape: tuple[int, ...], p: float) -> None:
    x = np.ones(shape, np.float32)
    y, mask = fastdrop.dropout(x, p, rng=1, return_mask=True)
    as_bool = mask.to_bool()
    assert as_bool.dtype == bool
    assert as_bool.shape == shape
    np.testing.assert_array_equal(as_bool, y != 0)
    np.testing.assert_array_equal(np.asarray(mask), as_bool)
    packed = mask.to_packed()
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, np.packbits(as_bool, bitorder="little"))
    np.testing.assert_array_equal(mask.apply(x), y)


def test_as_an_array() -> None:
    mask = mask_of((9, 9))
    assert np.asarray(mask, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(mask, np.float32), mask.to_bool().astype(np.float32))
    assert np.array(mask, copy=True).dtype == bool
    with pytest.raises(ValueError, match="stores no array"):
        np.array(mask, copy=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_apply_to_any_dtype(backend: str, dtype: str) -> None:
    mask = mask_of((50, 60), 0.75)
    x = np.ones((50, 60), dtype_of(dtype))
    out = poisoned(x.shape, x.dtype)
    assert mask.apply(x, out) is out
    np.testing.assert_array_equal(out.astype(complex), 4 * mask.to_bool())
    assert mask.apply(x, x) is x
    assert contents(x) == contents(out)


def test_apply_keeps_the_layout() -> None:
    mask = mask_of((5, 6))
    x = np.asfortranarray(any_bits((5, 6), np.float32))
    assert mask.apply(x).flags.f_contiguous


def test_apply_refuses() -> None:
    mask = mask_of((5, 6))
    with pytest.raises(
        ValueError, match=r"x must have the mask's shape \(5, 6\), but got \(6, 5\)"
    ):
        mask.apply(np.ones((6, 5)))
    with pytest.raises(ValueError, match="mask's shape"):
        mask.apply(np.ones(6))
    with pytest.raises(TypeError, match="x must have one of the dtypes"):
        mask.apply(np.ones((5, 6), int))
    with pytest.raises(ValueError, match="out must have x's shape"):
        mask.apply(np.ones((5, 6)), np.ones((5, 7)))


def test_it_does_not_follow_the_generator(backend: str) -> None:
    for rng in (fastdrop.Philox(1), np.random.SFC64(1), np.random.PCG64(1)):
        mask = mask_of((999,), rng=rng)
        before = mask.to_bool()
        mask_of((999,), rng=rng)
        np.testing.assert_array_equal(mask.to_bool(), before)


def test_reseeding_the_generator_leaves_old_masks(backend: str) -> None:
    rng = fastdrop.ARS4x32(1)
    mask = mask_of((999,), rng=rng)
    before = mask.to_bool()
    rng.reseed(2)
    np.testing.assert_array_equal(mask.to_bool(), before)


# Slicing it.


@pytest.mark.parametrize("rng", [1, "numpy"])
@given(
    rows=st.integers(0, 60),
    columns=st.integers(0, 300),
    start=st.integers(-70, 70),
    stop=st.integers(-70, 70),
    p=st.sampled_from([0.5, 0.25, 0.3]),
)
def test_rows_are_the_wholes(
    backend: str, rng: Any, rows: int, columns: int, start: int, stop: int, p: float
) -> None:
    mask = mask_of((rows, columns), p, np.random.MT19937(1) if rng == "numpy" else rng)
    whole = mask.to_bool()
    part = mask[start:stop]
    np.testing.assert_array_equal(part.to_bool(), whole[start:stop])
    np.testing.assert_array_equal(
        part.to_packed(), np.packbits(whole[start:stop], bitorder="little")
    )
    x = any_bits(part.shape, np.float32)
    np.testing.assert_array_equal(part.apply(x) != 0, part.to_bool() & (x != 0))
    for row in range(-rows, rows, 7):
        np.testing.assert_array_equal(mask[row].to_bool(), whole[row])


def test_slices_of_slices() -> None:
    mask = mask_of((20, 10, 30))
    whole = mask.to_bool()
    np.testing.assert_array_equal(mask[5:15][2:4][1][3:].to_bool(), whole[5:15][2:4][1][3:])
    np.testing.assert_array_equal(mask[np.int64(3)][-1][-1].to_bool(), whole[3, -1, -1])
    assert mask[:] == mask


def test_a_draw_in_pieces_is_the_draw(backend: str) -> None:
    x = any_bits((100, 333), np.float32)
    y, mask = fastdrop.dropout(x, 0.3, rng=1, return_mask=True)
    pieces = [mask[i : i + 9].apply(x[i : i + 9]) for i in range(0, 100, 9)]
    assert contents(np.concatenate(pieces)) == contents(y)


@pytest.mark.parametrize("step", [0, -1])
def test_slices_have_positive_steps(step: int) -> None:
    with pytest.raises(IndexError, match=f"step 1 or more, but got step {step}"):
        mask_of((5,))[::step]


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int | None], Any]:
    """Return a shape, a noise shape for it, and a basic index of it."""
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 3, 8, 65, 300]), min_size=1, max_size=4)))
    if math.prod(shape) > 300_000:
        shape = shape[:2]
    noise = [draw(st.sampled_from([None, 1])) for _ in shape]
    entries: list[Any] = []
    for n in shape:
        ends = st.none() | st.integers(-n - 2, n + 2)
        step = st.sampled_from([None, 1, 2, 7, 64])
        slices = st.builds(slice, ends, ends, step)
        entries.append(draw(slices | st.integers(-n, n - 1) if n else slices))
    cut = draw(st.integers(0, len(entries)))
    entries[cut:] = [Ellipsis] if draw(st.booleans()) else entries[cut:]
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), None)
    return shape, noise, tuple(entries)


@pytest.mark.parametrize("rng", ["ars4x32", "numpy"])
@given(case=windows(), p=st.sampled_from([0.5, 0.25, 0.1]))
def test_windows_are_the_wholes(backend: str, rng: str, case: Any, p: float) -> None:
    shape, noise, index = case
    generator = np.random.MT19937(1) if rng == "numpy" else fastdrop.ARS4x32(1)
    mask = fastdrop.mask(shape, p, noise_shape=noise, rng=generator)
    kept = mask.to_bool()[index]
    window = mask[index]
    assert window.shape == kept.shape
    np.testing.assert_array_equal(window.to_bool(), kept)
    np.testing.assert_array_equal(window.to_packed(), np.packbits(kept, bitorder="little"))
    x = any_bits(window.shape, np.float32)
    with fastdrop.use_backend("reference"):
        expected = fastdrop.ArrayMask(np.asarray(kept), p=p).apply(x)
    assert contents(window.apply(x)) == contents(expected)
    for held in (mask, window):
        assert fastdrop.Mask.from_state(held.state) == held == pickle.loads(pickle.dumps(held))


def test_fused_forms_take_windows(backend: str) -> None:
    mask = mask_of((40, 5000), 0.3)[3:30:2, 100:4400:3]
    x, residual = (any_bits(mask.shape, np.float32, seed) for seed in (1, 2))
    kept = fastdrop.ArrayMask(mask.to_bool(), p=0.3)
    for function in (fastdrop.relu_dropout, partial(fastdrop.dropout_add, residual=residual)):
        np.testing.assert_array_equal(function(x, mask=mask), function(x, mask=kept))


@pytest.mark.parametrize("threads", [1, 3])
def test_large_windows_by_several_threads(backend: str, threads: int) -> None:
    mask = mask_of((1500, 1500), 0.1)
    whole = mask.to_bool()
    before = fastdrop.get_num_threads()
    fastdrop.set_num_threads(threads)
    try:
        for index in (np.s_[:, 3:1400], np.s_[::3, ::2], np.s_[1:, 7], np.s_[::50]):
            np.testing.assert_array_equal(mask[index].to_bool(), whole[index])
    finally:
        fastdrop.set_num_threads(before)


def test_a_window_costs_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole mask has 10^18 elements."""
    mask, words, asked = fastdrop.mask((10**9, 10**9), rng=1), fastdrop.ARS4x32.words, []

    def counted(key: Any, position: int, n: int) -> Any:
        asked.append(n)
        return words(key, position, n)

    monkeypatch.setattr(fastdrop.ARS4x32, "words", counted)
    with fastdrop.use_backend("reference"):
        window = mask[10**8 : 10**8 + 5, 5 * 10**8 : 5 * 10**8 + 100]
        assert window.to_bool().shape == (5, 100)
    assert 0 < sum(asked) <= 64 * 2 * 5


# A mask without an array.


@pytest.mark.parametrize("noise_shape", [None, (None, 1), (1, 1)])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_mask_is_the_one_of_dropout(p: float, noise_shape: Any) -> None:
    rngs = fastdrop.ARS4x32(3), fastdrop.ARS4x32(3)
    x = np.ones((5, 900), np.float32)
    y, theirs = fastdrop.dropout(x, p, noise_shape=noise_shape, rng=rngs[0], return_mask=True)
    ours = fastdrop.mask(x.shape, p, noise_shape=noise_shape, rng=rngs[1])
    assert ours == theirs
    np.testing.assert_array_equal(ours.apply(x), y)
    assert rngs[0].state == rngs[1].state


def test_shapes_of_masks() -> None:
    assert fastdrop.mask(7).shape == fastdrop.mask([7]).shape == fastdrop.mask(np.int64(7)).shape
    assert fastdrop.mask(()).shape == ()
    rng = fastdrop.ARS4x32(1)
    for shape, error in (((3, -1), ValueError), ((2**32, 2**31), ValueError), ((1.5,), TypeError),
                         ("ab", TypeError), (None, TypeError)):  # fmt: skip
        with pytest.raises(error, match="shape must"):
            fastdrop.mask(shape, rng=rng)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise_shape"):
        fastdrop.mask((3, 4), noise_shape=(2, 4), rng=rng)
    assert rng.position == 0


@pytest.mark.parametrize("row", [5, -6, 10**30])
def test_rows_out_of_range(row: int) -> None:
    with pytest.raises(IndexError, match="row must be between -5 and 4"):
        mask_of((5,))[row]
    with pytest.raises(IndexError):
        mask_of((0, 3))[0]


@pytest.mark.parametrize(
    "index", [1.0, "a", np.array([1, 2]), True, (0, True), ([1], 0), (..., "a")], ids=repr
)
def test_other_indices_are_refused(index: Any) -> None:
    with pytest.raises(IndexError, match="indexed by ints, slices, Ellipsis and None"):
        mask_of((5, 5))[index]


def test_indices_that_do_not_suit_the_shape() -> None:
    with pytest.raises(IndexError, match="at most 2 indices, but got 3"):
        mask_of((5, 5))[0, 0, 0]
    with pytest.raises(IndexError, match="one Ellipsis, but got 2"):
        mask_of((5, 5))[..., ...]
    with pytest.raises(IndexError, match="slices must hold ints"):
        mask_of((5, 5))[1.5:]


def test_iterating_gives_the_rows() -> None:
    mask = mask_of((5, 4))
    assert [row.to_bool().tolist() for row in mask] == mask.to_bool().tolist()


# Comparing and copying it.


def test_equal_means_the_same_function() -> None:
    mask = mask_of((20, 30))
    assert mask == mask_of((20, 30))
    assert hash(mask) == hash(mask_of((20, 30)))
    others = [
        mask_of((20, 30), 0.4),
        mask_of((20, 30), rng=2),
        mask_of((20, 30), rng=fastdrop.Philox(1)),
        mask_of((30, 20)),
        mask_of((600,)),
        mask[1:],
        "mask",
    ]
    rng = fastdrop.ARS4x32(1)
    mask_of((1,), rng=rng)
    others.append(mask_of((20, 30), rng=rng))
    for other in others:
        assert mask != other
    assert len({mask, *others}) == len(others) + 1


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize("kind", [fastdrop.ARS4x32, fastdrop.PCG64, np.random.SFC64])
def test_copies_are_the_same_function(backend: str, kind: Any, copied: Any) -> None:
    mask = mask_of((99, 99), rng=kind(1))[3:]
    np.testing.assert_array_equal(copied(mask).to_bool(), mask.to_bool())


def test_it_is_small() -> None:
    assert len(pickle.dumps(mask_of((1000, 1000)))) < 1024
