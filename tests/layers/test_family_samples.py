"""Masks by sample id: the same in any batch, order or worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from capsules import address_of, capsule, generator

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


@pytest.mark.parametrize("noise_shape", [(None, 50, 1), (6, 1, None), (None, 1, 1), None])
def test_rows_share_masks_inside(noise_shape: Any, backend: str) -> None:
    y, mask = fastdrop.dropout(
        X, 0.3, rng=1, sample_ids=IDS, noise_shape=noise_shape, return_mask=True
    )
    noise = tuple(
        n if m is None else m for m, n in zip(noise_shape or X.shape, X.shape, strict=True)
    )
    assert mask.noise_shape == noise
    kept = mask.to_bool()
    first = kept[:, : noise[1], : noise[2]]
    assert np.array_equal(kept, np.broadcast_to(first, X.shape))
    assert np.array_equal(y, np.where(kept, X * np.float32(mask.scale), np.float32(0)))
    packed = np.unpackbits(mask.to_packed(), count=X.size, bitorder="little")
    assert np.array_equal(packed.view(np.bool_).reshape(X.shape), kept)
    for i in (0, 4):
        alone = fastdrop.dropout(
            X[i : i + 1], 0.3, rng=1, sample_ids=IDS[i : i + 1], broadcast_dims=shared(noise_shape)
        )
        assert np.array_equal(alone[0], y[i])
        assert np.array_equal(mask[i].apply(X[i]), y[i])
    # A row's mask is that of an array of its size, whatever rows lie beside it.
    assert fastdrop.AnyMask.from_state(mask.state) == mask
    with fastdrop.use_backend("reference"):
        assert np.array_equal(mask.apply(X), y)


def shared(noise_shape: Any) -> tuple[int, ...]:
    return tuple(axis for axis, n in enumerate(noise_shape or ()) if n == 1)


@pytest.mark.parametrize("columns", [1, 64, 70, 4096, 9000, 40_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_length_of_rows(columns: int, threads: int, backend: str) -> None:
    """Short rows go together, long ones by parts and through the pipeline."""
    rows = min(max(200_000 // columns, 3), 1000)
    x = np.random.default_rng(1).normal(size=(rows, columns)).astype(np.float32)
    ids = np.random.default_rng(2).permutation(rows)
    before = fastdrop.get_num_threads()
    fastdrop.set_num_threads(threads)
    try:
        y, mask = fastdrop.dropout(x, 0.3, rng=1, sample_ids=ids, return_mask=True)
        kept = mask.to_bool()
    finally:
        fastdrop.set_num_threads(before)
    assert np.array_equal(y, np.where(kept, x * np.float32(mask.scale), np.float32(0)))
    for i in (0, rows // 2, rows - 1):
        assert np.array_equal(mask[i].to_bool(), kept[i])
        with fastdrop.use_backend("reference"):
            assert np.array_equal(mask[i].apply(x[i]), y[i])
    part = mask[1::2, columns // 3 :: 2]
    assert np.array_equal(part.to_bool(), kept[1::2, columns // 3 :: 2])
    assert np.array_equal(part.apply(x[1::2, columns // 3 :: 2]), y[1::2, columns // 3 :: 2])


def test_other_layouts_dtypes_and_byte_orders(backend: str) -> None:
    expected, mask = fastdrop.dropout(X, 0.3, rng=1, sample_ids=IDS, return_mask=True)
    others = [np.asfortranarray(X), np.repeat(X, 2, axis=2)[..., ::2], X.astype(">f4")]
    for x in others:
        assert np.array_equal(fastdrop.dropout(x, 0.3, rng=1, sample_ids=IDS), expected)
        assert np.array_equal(mask.apply(x, np.empty_like(x)), expected)
    half = fastdrop.dropout(X.astype(np.float16), 0.3, rng=1, sample_ids=IDS)
    assert np.array_equal(half != 0, mask.to_bool() & (X.astype(np.float16) != 0))


def test_ids_of_two_numbers(backend: str) -> None:
    def kept(ids: Any) -> np.ndarray:
        return fastdrop.dropout(X, 0.3, rng=1, sample_ids=ids, return_mask=True)[1].to_bool()

    samples = np.array([5, 17, 0, 2**32 - 1, 3, 4])
    found = kept((7, samples))
    assert np.array_equal(found, kept(np.stack([np.full(6, 7), samples], axis=1)))
    assert np.array_equal(found, kept([7 * 2**32 + int(i) for i in samples]))
    assert np.array_equal(kept((0, samples)), kept(samples))
    assert not np.array_equal(kept((8, samples)), found)
    for first, second in ((np.uint64(7), samples), (7, samples.astype(np.uint64)), (7, [*samples])):
        assert np.array_equal(kept((first, second)), found)


def test_two_rows_are_no_pair() -> None:
    """A tuple of two is (int, ids) only if it looks so, and else an id for each row."""

    def kept(ids: Any) -> list[Any]:
        x = np.ones((2, 300), np.float32)
        return fastdrop.dropout(x, rng=1, sample_ids=ids, return_mask=True)[1].to_bool().tolist()

    assert kept((5, 17)) == kept([5, 17]) == kept([np.uint64(5), np.int64(17)])
    pairs = [(0, 1), (2, 3)]
    rows = [kept([id_, 2**40])[0] for id_ in (1, 2 * 2**32 + 3)]
    assert kept(pairs) == kept(tuple(pairs)) == kept(np.array(pairs)) == rows
    assert kept((9, (4, 5))) == kept([(9, 4), (9, 5)]) == kept(((9, 4), (9, 5)))


def test_a_generator_of_ones_own(backend: str) -> None:
    rng = generator(capsule())(1)
    y, mask = fastdrop.dropout(X, 0.3, rng=rng, sample_ids=IDS, return_mask=True)
    with fastdrop.use_backend("reference"):
        assert np.array_equal(mask.apply(X), y)


@pytest.mark.parametrize("columns", [70, 40_000])
def test_a_generator_that_fails_raises(columns: int, backend: str) -> None:
    failing = generator(capsule(fill=address_of(lambda key, position, n, out: 7)))(1)
    x = np.ones((9, columns), np.float32)
    with pytest.raises(RuntimeError, match="custom"):
        fastdrop.dropout(x, rng=failing, sample_ids=range(9))


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
        ({"sample_ids": IDS, "broadcast_dims": (0, 1)}, ValueError, "must not share a mask"),
        ({"sample_ids": IDS, "noise_shape": (1, 50, 1)}, ValueError, "must begin with 6 or None"),
        ({"sample_ids": IDS, "noise_shape": (6, 7, 1)}, ValueError, "must be 1, None or x's"),
        ({"sample_ids": (1, [1, 2])}, ValueError, "one id for each row"),
        ({"sample_ids": (2**40, IDS % 9)}, ValueError, "the first numbers of sample_ids"),
        ({"sample_ids": (1, IDS)}, ValueError, "second numbers .* between 0 and 4294967295"),
        ({"sample_ids": (-1, IDS % 9)}, ValueError, "first numbers .* got -1"),
        ({"sample_ids": (0.5, IDS % 9)}, TypeError, "must be ints"),
        ({"sample_ids": (True, IDS % 9)}, TypeError, "must be ints"),
        ({"sample_ids": ([7] * 6, IDS % 9)}, ValueError, "one id for each row"),
        ({"sample_ids": (2**63, IDS % 9)}, ValueError, "first numbers .* got 9223372036854775808"),
        ({"sample_ids": [2**63, 0, 1, 2, 3, 4]}, ValueError, "got 9223372036854775808"),
        ({"sample_ids": [True] * 6}, TypeError, "must be ints"),
        ({"sample_ids": [2**70] * 6}, ValueError, "between 0 and"),
        ({"sample_ids": [[1, 2, 3]] * 6}, ValueError, "one id for each row"),
        ({"sample_ids": [[1], [2, 3]] * 3}, ValueError, "one id for each row"),
    ],
)
def test_bad_ids_are_refused(more: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastdrop.dropout(X, **more)
