"""Mask: evaluating, slicing, packing, comparing."""

from __future__ import annotations

import copy
import pickle
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


@pytest.mark.parametrize("step", [2, -1])
def test_slices_have_step_one(step: int) -> None:
    with pytest.raises(IndexError, match=f"step 1, but got step {step}"):
        mask_of((5,))[::step]


@pytest.mark.parametrize("row", [5, -6, 10**30])
def test_rows_out_of_range(row: int) -> None:
    with pytest.raises(IndexError, match="row must be between -5 and 4"):
        mask_of((5,))[row]
    with pytest.raises(IndexError):
        mask_of((0, 3))[0]


@pytest.mark.parametrize("index", [(1, 2), None, ..., 1.0, "a", np.array([1, 2])], ids=repr)
def test_other_indices_are_refused(index: Any) -> None:
    with pytest.raises(IndexError, match="picked by an int or a slice"):
        mask_of((5, 5))[index]


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
