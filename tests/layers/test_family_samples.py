"""Masks by sample id: the same in any batch, order or worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop

X = np.random.default_rng(0).normal(size=(6, 50, 101)).astype(np.float32)
IDS = np.array([5, 17, 0, 10**12, 3, 4])


@pytest.mark.parametrize("make", [fastdrop.ARS4x32, fastdrop.PCG64, np.random.Philox])
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_rows_do_not_depend_on_batch_or_order(make: Any, p: float, backend: str) -> None:
    y, mask = fastdrop.dropout(X, p, rng=make(1), sample_ids=IDS, return_mask=True)
    order = [4, 0, 5, 2]
    again = fastdrop.dropout(X[order], p, rng=make(1), sample_ids=IDS[order])
    assert np.array_equal(again, y[order])
    for i in range(6):
        alone = fastdrop.dropout(X[i : i + 1], p, rng=make(1), sample_ids=IDS[i : i + 1])
        assert np.array_equal(alone[0], y[i])
        assert np.array_equal(mask[i].apply(X[i]), y[i])
    scale = np.float32(1 / (1 - p))
    assert np.array_equal(y, np.where(mask, X * scale, np.float32(0)))
    assert np.array_equal(fastdrop.dropout_backward(X, mask), y)
    with fastdrop.use_backend("reference"):
        assert np.array_equal(fastdrop.dropout(X, p, rng=make(1), sample_ids=IDS), y)


def test_masks_differ_between_ids_generators_and_positions() -> None:
    def bits(rng: Any, ids: Any) -> list[bytes]:
        mask = fastdrop.dropout(X, rng=rng, sample_ids=ids, return_mask=True)[1].to_bool()
        return [row.tobytes() for row in mask]

    moved = fastdrop.ARS4x32(1)
    moved.random_raw(1)
    found = bits(1, IDS) + bits(2, IDS) + bits(moved, IDS)
    plain = fastdrop.dropout(X, rng=1, return_mask=True)[1].to_bool()
    assert len({*found, *(row.tobytes() for row in plain)}) == 4 * len(IDS)


def test_generator_stays_where_it_is() -> None:
    rng = fastdrop.ARS4x32(1)
    first = fastdrop.dropout(X, rng=rng, sample_ids=IDS)
    assert rng.position == 0
    assert np.array_equal(fastdrop.dropout(X, rng=rng, sample_ids=IDS), first)
    own = X.copy()
    assert fastdrop.dropout(own, inplace=True, rng=rng, sample_ids=IDS) is own
    assert np.array_equal(own, first)
    y, mask = fastdrop.dropout(X, training=False, sample_ids=IDS, return_mask=True)
    assert y is X
    assert mask.to_bool().all()


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"sample_ids": [1, 2]}, ValueError, "one id for each row"),
        ({"sample_ids": [1.0] * 6}, TypeError, "must be ints"),
        ({"sample_ids": [-1] * 6}, ValueError, "between 0 and"),
        ({"sample_ids": [2**62] * 6}, ValueError, "between 0 and"),
        ({"sample_ids": IDS, "rng": np.random.MT19937(1)}, TypeError, "random access"),
        ({"sample_ids": IDS, "broadcast_dims": (1,)}, ValueError, "cannot be combined"),
    ],
)
def test_bad_ids_are_refused(more: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastdrop.dropout(X, **more)
