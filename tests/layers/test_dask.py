"""fastdrop.dask: the NumPy result for any chunks, in lazy, small and fused graphs."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from support import any_bits, contents

import fastdrop

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
import fastdrop.dask  # noqa: E402

X = np.random.default_rng(1).standard_normal((203, 517)).astype(np.float32)
CHUNKS = [(203, 517), (100, 100), (7, 517), (203, 11), ((50, 1, 152), (17, 500))]


def lazy(chunks: Any = 100, x: np.ndarray = X) -> Any:
    return da.from_array(x, chunks=chunks)


@pytest.mark.parametrize("noise_shape", [None, (None, 1), (1, None)])
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_any_chunks_give_numpys_result(backend: str, chunks: Any, noise_shape: Any) -> None:
    options = {"noise_shape": noise_shape}
    y, mask = fastdrop.dropout(X, 0.3, rng=1, return_mask=True, **options)
    found, same = fastdrop.dask.dropout(lazy(chunks), 0.3, rng=1, return_mask=True, **options)
    assert same == mask
    assert found.dtype == X.dtype
    for scheduler in ("synchronous", "threads"):
        assert contents(found.compute(scheduler=scheduler)) == contents(y)
    grad = fastdrop.dask.dropout_backward(lazy((40, 90)), mask)
    assert contents(grad.compute()) == contents(y)


CUBE = np.random.default_rng(2).standard_normal((20, 30, 41)).astype(np.float32)
LAYERS = {
    "Dropout": lambda: fastdrop.Dropout(0.3, rng=1),
    "shared": lambda: fastdrop.Dropout(0.3, noise_shape=(None, 1, None), rng=1),
    "Dropout1d": lambda: fastdrop.Dropout1d(0.3, rng=1),
    "SpatialDropout1D": lambda: fastdrop.SpatialDropout1D(0.3, rng=1),
    "DropPath": lambda: fastdrop.DropPath(0.3, rng=1),
    "AlphaDropout": lambda: fastdrop.AlphaDropout(0.3, rng=1),
    "FeatureAlphaDropout": lambda: fastdrop.FeatureAlphaDropout(0.3, rng=1),
    "GaussianDropout": lambda: fastdrop.GaussianDropout(0.3, rng=1),
    "GaussianNoise": lambda: fastdrop.GaussianNoise(0.3, rng=1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_numpys_result(name: str, backend: str) -> None:
    layer, twin = LAYERS[name](), LAYERS[name]()
    for chunks in ((20, 30, 41), (7, 11, 13)):
        y, mask = twin.forward_mask(CUBE)
        found, same = fastdrop.dask.forward(layer, lazy(chunks, CUBE), return_mask=True)
        assert contents(found.compute()) == contents(y)
        assert same == mask == layer.mask
        assert layer.rng.position == twin.rng.position
        grad = fastdrop.dask.dropout_backward(lazy((9, 9, 9), CUBE), mask)
        assert contents(grad.compute()) == contents(twin.backward(CUBE))
    x = lazy(10, CUBE)
    y, mask = fastdrop.dask.forward(layer.eval(), x, return_mask=True)
    assert y is x
    assert contents(mask.apply(CUBE)) == contents(CUBE)
    assert layer.mask is None
    other = fastdrop.dask.forward(layer.train(), x)
    assert other.name != found.name


def test_layers_that_cannot_be_called_lazily() -> None:
    class Own(fastdrop.Dropout):
        def forward(self, x: Any, out: Any = None) -> Any:
            return super().forward(x, out)

    for layer in (Own(0.3), fastdrop.DropBlock2d(0.3, block_size=3), 5):
        with pytest.raises(TypeError, match=f"layer must be .* got {type(layer).__name__}"):
            fastdrop.dask.forward(layer, lazy(10, CUBE))
    rng = np.random.MT19937(1)
    before = rng.random_raw()
    with pytest.raises(TypeError, match="random access"):
        fastdrop.dask.forward(fastdrop.Dropout(0.3, rng=rng), lazy(10, CUBE))
    assert np.random.MT19937(1).random_raw(2)[1] == rng.random_raw() != before
    with pytest.raises(TypeError, match="real dtype for AlphaDropout"):
        fastdrop.dask.forward(fastdrop.AlphaDropout(0.3), lazy(10, CUBE.astype(np.complex64)))
    x = lazy(10, CUBE)
    assert fastdrop.dask.forward(fastdrop.Dropout(0.3, rng=rng).eval(), x) is x  # draws nothing
    assert fastdrop.dask.dropout(x, 0.0, rng=rng) is x
    with pytest.raises(RuntimeError, match="FeatureAlphaDropout expects"):
        fastdrop.dask.forward(fastdrop.FeatureAlphaDropout(0.3), lazy(10, CUBE[0, 0]))


@pytest.mark.parametrize(
    "make", [fastdrop.Dropout, fastdrop.AlphaDropout, fastdrop.GaussianDropout]
)
@pytest.mark.parametrize(
    ("chunk", "error", "message"),
    [
        (
            lambda: np.ones((4, 6), complex),
            ValueError,
            "dtype float64, as its Dask .* and complex128",
        ),
        (lambda: np.ones((4, 5)), ValueError, r"must have the shape \(4, 6\) .* but has \(4, 5\)"),
        (lambda: np.ma.ones((4, 6)), TypeError, "MaskedArray"),
    ],
    ids=["dtype", "shape", "class"],
)
def test_chunks_that_are_not_what_their_array_says(
    make: Any, chunk: Any, error: type[Exception], message: str, backend: str
) -> None:
    x = da.from_delayed(dask.delayed(chunk)(), (4, 6), dtype=float)
    with pytest.raises(error, match=message):
        fastdrop.dask.forward(make(0.5, rng=1), x).compute(scheduler="synchronous")


def test_users_attributes_do_not_meet_fastdrops() -> None:
    class Own(fastdrop.AlphaDropout):
        def __init__(self) -> None:
            super().__init__(0.3, rng=1)
            self.check, self.form, self.add = True, "selu", None

    y = fastdrop.AlphaDropout(0.3, rng=1)(CUBE)
    assert contents(Own()(CUBE)) == contents(y)
    assert contents(fastdrop.dask.forward(Own(), lazy(10, CUBE)).compute()) == contents(y)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64"])
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: str) -> None:
    x = any_bits(shape, np.dtype(dtype))
    found = fastdrop.dask.dropout(lazy(2, x), 0.5, rng=1)
    assert (found.dtype, found.shape) == (x.dtype, shape)
    assert contents(np.asarray(found.compute())) == contents(fastdrop.dropout(x, 0.5, rng=1))


def test_what_is_done_to_the_result_changes_no_mask() -> None:
    y = fastdrop.dropout(X, 0.3, rng=1)
    lazily = fastdrop.dask.dropout(lazy(), 0.3, rng=1)
    np.testing.assert_array_equal(lazily.T.rechunk(50)[3:40].compute(), y.T[3:40])
    np.testing.assert_array_equal(lazily[::7, 100].compute(), y[::7, 100])
    np.testing.assert_array_equal(lazily.compute(), lazily.compute())
    np.testing.assert_array_equal(lazily.persist().compute(), y)


def test_masks_of_other_kinds_go_back() -> None:
    x = X[:30].astype(np.float64)
    for mask in (
        fastdrop.dropout(x, rng=1, sample_ids=range(30), return_mask=True)[1],
        fastdrop.GaussianDropout(0.3, rng=1).forward_mask(x)[1],
        fastdrop.ArrayMask(x > 0, p=0.5),
        fastdrop.mask((40, 600), 0.3, rng=1)[5:35, 17:534],
    ):
        grad = fastdrop.dask.dropout_backward(lazy((7, 100), x), mask)
        np.testing.assert_array_equal(grad.compute(), mask.apply(x))


def test_words_are_reserved_when_the_graph_is_made() -> None:
    eager, rng = fastdrop.ARS4x32(3), fastdrop.ARS4x32(3)
    first = fastdrop.dask.dropout(lazy(), rng=rng)
    second = fastdrop.dask.dropout(lazy(), rng=rng)
    position = rng.position
    expected = [fastdrop.dropout(X, rng=eager) for _ in range(2)]
    np.testing.assert_array_equal(second.compute(), expected[1])
    np.testing.assert_array_equal(first.compute(), expected[0])
    assert rng.position == position == eager.position
    x = lazy()
    assert fastdrop.dask.dropout(x, training=False, rng=rng) is x
    assert fastdrop.dask.dropout(x, 0.0, rng=rng) is x
    assert rng.position == position


def test_graphs_are_small_lazy_and_fused() -> None:
    """Names depend on what is computed and on nothing else."""
    x = da.ones((1000, 1000), chunks=(32, 32), dtype=np.float32)
    y = fastdrop.dask.dropout(x + 1, rng=1) * 2
    assert len(pickle.dumps(y.__dask_graph__())) < 16_000  # of 1024 chunks
    (optimized,) = dask.optimize(y)
    assert len(optimized.__dask_graph__()) == y.npartitions
    again = fastdrop.dask.dropout(x + 1, rng=1) * 2
    assert again.name == y.name
    assert (fastdrop.dask.dropout(x + 1, rng=2) * 2).name != y.name


@pytest.mark.parametrize("chunks", [{"time": 7}, {"time": 100, "cell": 100}], ids=str)
def test_xarray_with_chunks_gives_numpys_result(chunks: dict[str, int]) -> None:
    xarray = pytest.importorskip("xarray")
    x = xarray.DataArray(X, dims=("time", "cell")).chunk(chunks)
    y = xarray.apply_ufunc(fastdrop.dask.dropout, x, kwargs={"rng": 7}, dask="allowed")
    assert (y.dims, y.chunks) == (x.dims, x.chunks)
    np.testing.assert_array_equal(y.values, fastdrop.dropout(X, rng=7))


def test_xarrays_parallelized_repeats_the_mask_of_an_int() -> None:
    """docs/dask.md warns of it."""
    xarray = pytest.importorskip("xarray")
    x = xarray.DataArray(np.ones((200, 30)), dims=("time", "cell")).chunk({"time": 100})
    y = xarray.apply_ufunc(
        fastdrop.dropout, x, kwargs={"rng": 7}, dask="parallelized", output_dtypes=[x.dtype]
    )
    np.testing.assert_array_equal(y.values[:100], y.values[100:])


@pytest.fixture
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(action="ignore"),
        # It leaves one thread for BLAS to the processes of later tests.
        mock.patch.dict(os.environ),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_processes_give_the_same_and_so_do_new_ones(client: Any) -> None:
    y = fastdrop.dropout(X, 0.3, rng=1)
    lazily = fastdrop.dask.dropout(lazy(50), 0.3, rng=1)
    np.testing.assert_array_equal(client.compute(lazily).result(timeout=60), y)
    held = client.persist(lazily)
    np.testing.assert_array_equal(client.compute(held).result(timeout=60), y)
    before = set(client.run(os.getpid).values())
    os.kill(min(before), signal.SIGKILL)
    np.testing.assert_array_equal(client.compute(held + 0).result(timeout=60), y)
    client.wait_for_workers(2, timeout=60)
    assert min(before) not in client.run(os.getpid).values()


def test_bad_arguments_are_refused_before_words_are_taken() -> None:
    rng = fastdrop.ARS4x32(1)
    x = lazy()
    unknown = x[x[:, 0] > 0]
    for bad, error, message in (
        (X, TypeError, r"x must be a dask.array.Array, but got ndarray"),
        (unknown, ValueError, "chunks of known sizes"),
        (lazy(x=np.arange(9)), TypeError, "dtype"),
        (x.map_blocks(np.ma.masked_array, meta=np.ma.empty((0, 0), np.float32)), TypeError,
         "made of NumPy arrays, but got chunks of MaskedArray"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            fastdrop.dask.dropout(bad, rng=rng)
    with pytest.raises(ValueError, match="probability"):
        fastdrop.dask.dropout(x, 1.5, rng=rng)
    with pytest.raises(ValueError, match="noise_shape"):
        fastdrop.dask.dropout(x, noise_shape=(1, 2), rng=rng)
    assert rng.position == 0
    noise = fastdrop.GaussianDropout(0.3, rng=1).forward_mask(X)[1]
    with pytest.raises(TypeError, match="real dtype"):  # now, not when it is computed
        fastdrop.dask.dropout_backward(lazy(x=X.astype(np.complex64)), noise)
    forward_only = np.random.MT19937(1)
    before = str(forward_only.state)
    with pytest.raises(TypeError, match="random access"):
        fastdrop.dask.dropout(x, rng=forward_only)
    assert str(forward_only.state) == before
    for layer in (fastdrop.Dropout(rng=forward_only), fastdrop.GaussianDropout(rng=forward_only)):
        with pytest.raises(TypeError, match="random access"):
            fastdrop.dask.dropout_backward(x, layer.forward_mask(X)[1])
    squares = fastdrop.DropBlock2d(0.2, 2, rng=1).forward_mask(np.ones((2, 3, 8, 8)))[1]
    with pytest.raises(TypeError, match="a BlockMask, whose squares lie across chunks"):
        fastdrop.dask.dropout_backward(lazy(2, np.ones((2, 3, 8, 8))), squares)
    mask = fastdrop.mask((3, 4), rng=rng)
    with pytest.raises(ValueError, match="grad must have the mask's shape"):
        fastdrop.dask.dropout_backward(x, mask)
    with pytest.raises(TypeError, match=r"mask must be a fastdrop\.Mask"):
        fastdrop.dask.dropout_backward(x, None)  # type: ignore[arg-type]
