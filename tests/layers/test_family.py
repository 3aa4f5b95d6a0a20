"""Every layer of the family: what is kept, what is written, its backward, its dtypes."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import DTYPES, NUMBA_DTYPES, OTHER_DTYPES, any_bits, contents, dtype_of, poisoned

import fastdrop

A = -1.7580993408473766


class Case(NamedTuple):
    make: Callable[..., Any]
    shape: tuple[int, ...]
    noise: tuple[int, ...]  # the shape that the mask is drawn over


def case(name: str, shape: tuple[int, ...], noise: tuple[int, ...], **settings: Any) -> Any:
    cls = getattr(fastdrop, name)
    label = "-".join([name, *(f"{k}={v}" for k, v in settings.items()), f"{len(shape)}d"])
    return pytest.param(
        Case(lambda p=0.3, **more: cls(p, rng=7, **settings, **more), shape, noise), id=label
    )


CASES = [
    case("Dropout", (3, 5, 700), (3, 5, 700)),
    case("Dropout", (3, 5, 700), (3, 1, 700), noise_shape=(None, 1, 700)),
    case("Dropout", (9, 50, 7), (1, 50, 1), noise_shape=(1, None, 1)),
    case("Dropout", (3, 5, 700), (3, 5, 1), broadcast_dims=(-1,)),
    case("Dropout1d", (4, 6, 99), (4, 6, 1)),
    case("Dropout1d", (60, 99), (60, 1)),
    case("Dropout2d", (4, 6, 9, 7), (4, 6, 1, 1)),
    case("Dropout3d", (4, 6, 5, 3, 7), (4, 6, 1, 1, 1)),
    case("Dropout3d", (24, 5, 3, 7), (24, 1, 1, 1)),
    case("SpatialDropout1D", (4, 99, 6), (4, 1, 6)),
    case("SpatialDropout1D", (4, 6, 99), (4, 6, 1), channel_axis=1),
    case("SpatialDropout2D", (4, 9, 7, 6), (4, 1, 1, 6)),
    case("SpatialDropout3D", (4, 5, 3, 7, 6), (4, 1, 1, 1, 6)),
    case("DropPath", (40, 3, 8), (40, 1, 1)),
    case("DropPath", (3, 40, 8), (1, 40, 1), scale_by_keep=False, batch_axis=1),
    case("AlphaDropout", (3, 5, 700), (3, 5, 700)),
    case("FeatureAlphaDropout", (4, 6, 99), (4, 6, 1)),
    case("DropConnect", (30, 70), (30, 70)),
]
every_case = pytest.mark.parametrize("of", CASES)


def dtypes_of(of: Case, among: Sequence[str] = DTYPES) -> list[str]:
    is_alpha = isinstance(of.make(), fastdrop.AlphaDropout)
    return [name for name in among if not (is_alpha and name.startswith("complex"))]


@every_case
def test_mask_is_that_of_the_noise_shape(of: Case, backend: str) -> None:
    """A shared mask is the plain mask of a smaller array, repeated."""
    layer = of.make()
    layer(np.ones(of.shape))
    assert layer.mask.noise_shape == of.noise
    plain = fastdrop.dropout(np.ones(of.noise), 0.3, rng=7, return_mask=True)[1].to_bool()
    assert 0 < plain.sum() < plain.size
    assert np.array_equal(layer.mask, np.broadcast_to(plain, of.shape))
    assert np.array_equal(
        np.unpackbits(layer.mask.to_packed(), count=layer.mask.size, bitorder="little"),
        layer.mask.to_bool().ravel(),
    )
    assert np.array_equal(layer.mask[1:3], layer.mask.to_bool()[1:3])
    assert np.array_equal(layer.mask[-1], layer.mask.to_bool()[-1])


@every_case
@pytest.mark.parametrize("layout", ["C", "F", "swapped", "every other", "misaligned"])
@pytest.mark.parametrize("dtypes", [NUMBA_DTYPES, OTHER_DTYPES], ids=["2 dtypes", "other dtypes"])
def test_backends_and_layouts_agree_with_the_reference(
    of: Case, dtypes: tuple[str, ...], layout: str, backend: str, threads: int
) -> None:
    for name in dtypes_of(of, dtypes):
        x = any_bits(of.shape, dtype_of(name))
        with fastdrop.use_backend("reference"):
            expected = of.make()(x)
        assert contents(of.make()(in_layout(x, layout))) == contents(expected)
        out = in_layout(poisoned(of.shape, x.dtype), layout)
        assert of.make()(x, out) is out
        assert contents(out) == contents(expected)
        own = in_layout(x, layout)
        assert of.make(inplace=True)(own) is own
        assert contents(own) == contents(expected)


def in_layout(x: np.ndarray, layout: str) -> np.ndarray:
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "swapped":
        return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    if layout == "every other":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "misaligned":
        octets = np.zeros(x.nbytes + 1, np.uint8)
        octets[1:] = np.frombuffer(x.tobytes(), np.uint8)
        return octets[1:].view(x.dtype).reshape(x.shape)
    return x.copy()


@every_case
def test_values_are_the_formulas(of: Case, backend: str) -> None:
    layer = of.make()
    x = np.random.default_rng(0).normal(size=of.shape)
    y, kept = layer(x), layer.mask.to_bool()
    if isinstance(layer, fastdrop.AlphaDropout):
        a = (0.7 * (1 + 0.3 * A * A)) ** -0.5
        expected = a * np.where(kept, x, A) - a * 0.3 * A
    else:
        scaled = getattr(layer, "scale_by_keep", True)
        expected = np.where(kept, x / 0.7 if scaled else x, 0.0)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15)


@every_case
def test_backward_is_the_derivative(of: Case, backend: str) -> None:
    layer = of.make()
    x, grad = (np.random.default_rng(i).normal(size=of.shape) for i in range(2))
    y, mask = layer.forward_mask(x)
    back = layer.backward(grad)
    assert contents(mask.apply(grad)) == contents(back)
    assert contents(fastdrop.dropout_backward(grad, mask)) == contents(back)
    step = np.random.default_rng(2).normal(size=of.shape) * 1e-3
    moved = of.make()(x + step)
    assert np.vdot(grad, moved - y) == pytest.approx(np.vdot(back, step), rel=1e-7, abs=1e-9)
    out = grad.copy()
    assert layer.backward(out, out=out) is out
    assert contents(out) == contents(back)


@every_case
def test_backward_equals_torchs_autograd(of: Case) -> None:
    torch = pytest.importorskip("torch")
    layer = of.make()
    x, grad = (np.random.default_rng(i).normal(size=of.shape) for i in range(2))
    y = layer(x)
    t = torch.tensor(x, requires_grad=True)
    kept = torch.tensor(layer.mask.to_bool())
    if isinstance(layer, fastdrop.AlphaDropout):
        a = (0.7 * (1 + 0.3 * A * A)) ** -0.5
        expected = torch.where(kept, t, A) * a - a * 0.3 * A
    else:
        expected = torch.where(kept, t * layer.mask.scale, 0.0)
    expected.backward(torch.tensor(grad))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(layer.backward(grad), t.grad.numpy(), rtol=1e-13)


@every_case
def test_identities(of: Case) -> None:
    x = np.ones(of.shape, np.float32)
    for layer in (of.make(0.0), of.make().eval()):
        used = layer.rng.position
        assert layer(x) is x
        assert layer.mask is None
        assert layer.rng.position == used
        assert layer.backward(x) is x
        y, mask = layer.forward_mask(x)
        assert y is x
        assert mask.to_bool().all()
        out = poisoned(of.shape, x.dtype)
        assert layer(x, out) is out
        assert np.array_equal(out, x)
    everything = of.make(1.0)
    assert contents(everything(x)) == contents(np.zeros_like(x))
    assert contents(everything.backward(x)) == contents(np.zeros_like(x))


@every_case
def test_always_drops_in_eval_mode(of: Case) -> None:
    x = np.ones(of.shape)
    always = of.make(always=True).eval()
    assert contents(always(x)) == contents(of.make()(x))
    assert "always=True" in repr(always)


@every_case
def test_shared_masks_cost_fewer_random_numbers(of: Case) -> None:
    layer, plain = of.make(), fastdrop.Dropout(0.3, rng=7)
    layer(np.ones(of.shape))
    plain(np.ones(of.noise))
    assert layer.rng.position == plain.rng.position


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(p: float, backend: str) -> None:
    n = 1_000_000
    y = fastdrop.AlphaDropout(p, rng=11)(np.random.default_rng(5).normal(size=n))
    # 5 standard errors: one false alarm in two million runs. y's kurtosis is below 4.
    assert abs(y.mean()) < 5 / np.sqrt(n)
    assert abs(y.var() - 1) < 5 * np.sqrt(3 / n)


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"])
@pytest.mark.parametrize("ndim", range(7))
def test_ranks_are_torchs(name: str, ndim: int) -> None:
    """The same ranks raise, warn and pass, and the same elements share."""
    torch = pytest.importorskip("torch")
    shape = (2, 3, 4, 2, 3, 2)[:ndim]
    theirs = outcome(lambda: getattr(torch.nn, name)(0.5)(torch.ones(shape)))
    ours = outcome(lambda: getattr(fastdrop, name)(0.5, rng=0)(np.ones(shape, np.float32)))
    assert ours == theirs
    if theirs[0] is None:
        shared = [True] * ndim
        for seed in range(20):
            torch.manual_seed(seed)
            y = getattr(torch.nn, name)(0.5)(torch.ones(shape)).numpy()
            shared = [s and bool((y == y.take([0], i)).all()) for i, s in enumerate(shared)]
        layer = getattr(fastdrop, name)(0.5, rng=0)
        layer(np.ones(shape, np.float32))
        assert [n == 1 for n in layer.mask.noise_shape] == shared


def outcome(call: Callable[[], Any]) -> tuple[type | None, int]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
        except Exception as error:
            return type(error), len(caught)
    return None, len(caught)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"noise_shape": (3, 1)}, ValueError, "noise_shape must have an entry for each of the 3"),
        ({"noise_shape": (3, 2, 7)}, ValueError, "each entry of noise_shape must be 1, None or"),
        ({"noise_shape": (3, 1.0, 7)}, TypeError, "noise_shape must hold ints"),
        ({"broadcast_dims": (3,)}, ValueError, "broadcast_dims must be between -3 and 2"),
        ({"broadcast_dims": (1, -2)}, ValueError, "broadcast_dims must name each axis once"),
        ({"broadcast_dims": (1,), "noise_shape": (3, 1, 7)}, ValueError, "only one of"),
    ],
)
def test_bad_sharing_is_refused_before_anything_is_spent(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    x, rng = np.ones((3, 5, 7)), fastdrop.ARS4x32(1)
    for call in (
        lambda: fastdrop.dropout(x, rng=rng, inplace=True, **arguments),
        lambda: fastdrop.Dropout(rng=rng, inplace=True, **arguments)(x),
    ):
        with pytest.raises(error, match=message):
            call()
    assert rng.position == 0
    assert (x == 1).all()


def test_other_bad_inputs_are_refused() -> None:
    for make, shape in ((fastdrop.SpatialDropout1D, (3, 4)), (fastdrop.DropPath, ())):
        with pytest.raises(ValueError, match="dimensions"):
            make(0.5)(np.ones(shape))
    with pytest.raises(ValueError, match="channel_axis"):
        fastdrop.SpatialDropout1D(channel_axis=0)(np.ones((2, 3, 4)))
    with pytest.raises(TypeError, match="real dtype"):
        fastdrop.AlphaDropout()(np.ones(3, np.complex64))
    with pytest.raises(TypeError, match="must be a fastdrop"):
        fastdrop.dropout_backward(np.ones(3), np.ones(3, bool))
    with pytest.raises(RuntimeError, match="needs a forward"):
        fastdrop.Dropout().backward(np.ones(3))


FORWARD_BACKWARD = [
    fastdrop.Dropout,
    fastdrop.Dropout1d,
    fastdrop.DropPath,
    fastdrop.AlphaDropout,
    fastdrop.GaussianDropout,
]


@pytest.mark.parametrize("make", FORWARD_BACKWARD)
@pytest.mark.parametrize("samples", [64, pytest.param(3052, marks=pytest.mark.slow, id="400 MB")])
def test_forward_and_backward_allocate_their_outputs_only(
    make: Any, samples: int, backend: str
) -> None:
    x = np.ones((samples, 128, 256), np.float32)
    layer = make(0.3, rng=1)
    layer.backward(layer(x[:1]))  # compiles, opens
    if backend != "cython":
        pytest.skip("the others make intermediate arrays")
    tracemalloc.start()
    y = layer(x)
    grad = layer.backward(y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < y.nbytes + grad.nbytes + 50_000
