"""What torch documents about dropout, for torch's API enabled and for fastdrop's own."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch")

import fastdrop.torch as ft  # noqa: E402

NAMES = [
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
]
MODULES = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
CHANNELWISE = {
    "dropout1d": (64, 32, 5),
    "dropout2d": (64, 32, 3, 4),
    "dropout3d": (64, 32, 2, 3, 4),
}
DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]
SIZES = [7, 257, 4096, 4097, 10_000]  # on both sides of what is multiplied and what is masked


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


@pytest.fixture(params=["enabled", "functional"])
def functional(request):
    if request.param == "functional":
        yield ft.functional
    else:
        with ft.enabled():
            yield torch.nn.functional


@pytest.fixture(params=["enabled", "modules"])
def nn(request):
    if request.param == "modules":
        yield ft
    else:
        with ft.enabled():
            yield torch.nn


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_elements_are_zero_or_scaled(functional, dtype, n):
    x = torch.randn(n, dtype=dtype)
    y = functional.dropout(x, 0.25)
    assert y.dtype == dtype
    kept = y != 0
    expected = (x * (1 / 0.75)).to(dtype)
    assert torch.equal(y[kept], expected[kept])
    assert abs(kept.double().mean().item() - 0.75) < 5 * (0.75 * 0.25 / n) ** 0.5


@pytest.mark.parametrize("name", CHANNELWISE)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_channels_are_dropped_whole(functional, name, p):
    y = getattr(functional, name)(torch.ones(CHANNELWISE[name]), p)
    channels = y.flatten(2)
    assert torch.equal(channels, channels[..., :1].expand_as(channels))
    first = channels[..., 0]
    kept = first != 0
    assert torch.equal(first[kept], torch.full_like(first[kept], 1 / (1 - p)))
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * (p * (1 - p) / first.numel()) ** 0.5


@pytest.mark.parametrize(
    ("name", "shape"), [("dropout1d", (300, 5)), ("dropout3d", (300, 2, 3, 4))]
)
@pytest.mark.parametrize("inplace", [False, True])
def test_one_sample_without_a_batch(functional, name, shape, inplace):
    x = torch.ones(shape)
    y = getattr(functional, name)(x, 0.5, inplace=inplace)
    assert y.shape == shape
    assert (y is x) == inplace
    channels = y.flatten(1)
    assert torch.equal(channels, channels[:, :1].expand_as(channels))
    assert set(channels[:, 0].tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("inplace", [False, True])
def test_alpha_dropout_keeps_mean_and_variance(functional, name, p, inplace):
    shape = (300, 300) if name == "alpha_dropout" else (300, 300, 2)
    x = torch.randn(shape)
    original = x.clone()
    y = getattr(functional, name)(x, p, training=True, inplace=inplace)
    assert (y is x) == inplace
    assert abs(y.mean().item()) < 0.03
    assert abs(y.std().item() - 1) < 0.03
    alpha = 1.7580993408473766
    a = ((1 - p) * (1 + p * alpha**2)) ** -0.5
    dropped = (y + alpha * a * (1 - p)).abs() < 1e-5
    assert abs(dropped.double().mean().item() - p) < 0.02
    torch.testing.assert_close(y[~dropped], a * original[~dropped] + alpha * a * p)


@pytest.mark.parametrize("name", NAMES)
def test_identity_in_eval_mode_and_for_zero(functional, name):
    x = torch.randn(2, 3, 4, 5) if name != "dropout1d" else torch.randn(2, 3, 4)
    state = torch.get_rng_state()
    assert getattr(functional, name)(x, 0.5, training=False).data_ptr() == x.data_ptr()
    assert torch.equal(getattr(functional, name)(x, 0.0, training=True), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_in_eval_mode_is_the_same_object(functional):
    x = torch.randn(3, 4)
    assert functional.dropout(x, training=False) is x
    assert functional.dropout(x, p=0.0) is x


@pytest.mark.parametrize("name", NAMES)
def test_p_of_one_gives_zeros(functional, name):
    x = torch.randn(6, 7, 50) if name == "dropout1d" else torch.randn(6, 7, 50, 2)
    assert torch.equal(getattr(functional, name)(x, 1.0, training=True), torch.zeros_like(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("p", [-0.1, 1.1, -1e-300])
def test_bad_p(functional, name, p):
    x, state = torch.ones(2, 3, 4), torch.get_rng_state()
    with pytest.raises(
        ValueError, match=f"^dropout probability has to be between 0 and 1, but got {p}$"
    ):
        getattr(functional, name)(x, p)
    assert torch.equal(torch.get_rng_state(), state)


def test_nan_p(functional):
    with pytest.raises(RuntimeError, match="dropout probability has to be between 0 and 1"):
        functional.dropout(torch.ones(3), float("nan"))


@pytest.mark.parametrize("name", MODULES)
def test_modules_refuse_bad_p(nn, name):
    with pytest.raises(
        ValueError, match=r"^dropout probability has to be between 0 and 1, but got 1\.5$"
    ):
        getattr(nn, name)(1.5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
def test_integers_are_refused_in_torchs_words(functional, dtype):
    x = torch.ones(3, dtype=dtype)
    with pytest.raises(RuntimeError) as torchs:
        _torchs_own(x)
    with pytest.raises(RuntimeError) as ours:
        functional.dropout(x)
    assert str(ours.value) == str(torchs.value)


def _torchs_own(x):
    return torch.ops.aten.dropout.default._op_dk(
        torch._C.DispatchKey.CompositeImplicitAutograd, x, 0.5, True
    )


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5)])
def test_dropout1d_refuses_other_ranks(functional, shape):
    message = f"dropout1d: Expected 2D or 3D input, but received a {len(shape)}D input"
    with pytest.raises(RuntimeError, match=message):
        functional.dropout1d(torch.ones(shape))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("dropout2d", (2, 3), "Received a 2-D input to dropout2d"),
        ("dropout2d", (2, 3, 4), "Received a 3D input to dropout2d"),
        ("dropout3d", (2, 3, 4), "Received a 3-D input to dropout3d"),
    ],
)
def test_other_ranks_warn(functional, name, shape, message):
    with pytest.warns(UserWarning, match=message):
        getattr(functional, name)(torch.ones(shape))


def test_right_ranks_do_not_warn(functional):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, shape in CHANNELWISE.items():
            getattr(functional, name)(torch.ones(shape))


def test_channels_need_two_dimensions(functional):
    with pytest.raises(RuntimeError, match="Feature dropout requires at least 2 dimensions"):
        functional.feature_alpha_dropout(torch.ones(3), 0.5, training=True)


@pytest.mark.parametrize("name", NAMES)
def test_empty_input(functional, name):
    x = torch.ones(0, 3, 4)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert getattr(functional, name)(x, 0.5, training=True).shape == x.shape
    assert torch.equal(torch.get_rng_state(), state)


def test_rng_state_freezes_and_restores_the_mask(functional):
    x = torch.ones(1000)
    state = torch.get_rng_state()
    first = functional.dropout(x)
    second = functional.dropout(x)
    torch.set_rng_state(state)
    assert torch.equal(functional.dropout(x), first)
    assert torch.equal(functional.dropout(x), second)
    assert not torch.equal(first, second)


def test_manual_seed_and_fork_rng(functional):
    x = torch.ones(1000)
    torch.manual_seed(5)
    first, second = functional.dropout(x), functional.dropout(x)
    torch.manual_seed(5)
    assert torch.equal(functional.dropout(x), first)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        functional.dropout(x)
    assert torch.equal(functional.dropout(x), second)


@pytest.mark.parametrize("n", SIZES)
def test_recording_gradients_does_not_change_the_mask(functional, n):
    x = torch.randn(n)
    torch.manual_seed(3)
    plain = functional.dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(functional.dropout(x.clone().requires_grad_(), 0.3).detach(), plain)
    torch.manual_seed(3)
    assert torch.equal(functional.dropout(x.clone(), 0.3, inplace=True), plain)


LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "offset": lambda x: torch.cat([x, x])[4:],
    "broadcast": lambda x: x[:1].expand(4, 5, 6, 7),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_do_not_depend_on_the_layout(functional, layout, dtype):
    x = torch.ones(4, 5, 6, 7, dtype=dtype)
    other = LAYOUTS[layout](x)
    torch.manual_seed(1)
    plain = functional.dropout(x, 0.3)
    torch.manual_seed(1)
    y = functional.dropout(other, 0.3)
    assert torch.equal(y, plain)
    assert y.stride() == torch.empty_like(other).stride()


def test_channels_last_is_kept_by_dropout2d(functional):
    x = torch.ones(4, 5, 6, 7).to(memory_format=torch.channels_last)
    assert functional.dropout2d(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("view", ["conj", "neg"])
def test_lazy_views_have_their_values(functional, view):
    x = torch.randn(500, dtype=torch.complex64)
    lazy = x.conj() if view == "conj" else x.conj().imag
    value = lazy.resolve_conj().resolve_neg().clone()
    y = functional.dropout(lazy, 0.5)
    kept = y != 0
    assert kept.any()
    assert torch.equal(y[kept], 2 * value[kept])


@pytest.mark.parametrize("n", SIZES)
def test_inplace(functional, n):
    x = torch.ones(n)
    version = x._version
    y = functional.dropout(x, 0.5, inplace=True)
    assert y is x
    assert set(x.tolist()) <= {0.0, 2.0}
    assert x._version > version


def test_inplace_on_a_strided_view_leaves_the_rest(functional):
    x = torch.ones(2000)
    functional.dropout(x[::2], 0.5, inplace=True)
    assert set(x[::2].tolist()) == {0.0, 2.0}
    assert torch.equal(x[1::2], torch.ones(1000))


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "strided", "offset"])
def test_inplace_has_the_mask_of_any_layout(functional, layout):
    x = LAYOUTS[layout](torch.randn(4, 5, 6, 7))
    torch.manual_seed(1)
    expected = functional.dropout(x, 0.3)
    torch.manual_seed(1)
    assert functional.dropout(x, 0.3, inplace=True) is x
    assert torch.equal(x, expected)


def test_inplace_on_overlapping_memory_is_refused(functional):
    with pytest.raises(RuntimeError, match="single memory location"):
        functional.dropout(torch.ones(1).expand(1000), inplace=True)


def test_inference_mode(functional):
    with torch.inference_mode():
        y = functional.dropout(torch.ones(1000))
        assert set(y.tolist()) == {0.0, 2.0}
    with pytest.raises(RuntimeError, match="inference tensor"):
        functional.dropout(y, inplace=True)
    assert set(y.tolist()) == {0.0, 2.0}


def test_default_device_does_not_matter(functional):
    with torch.device("meta"):
        assert set(functional.dropout(torch.ones(1000, device="cpu")).tolist()) == {0.0, 2.0}


def test_other_devices_are_left_to_torch(functional):
    assert functional.dropout(torch.ones(1000, device="meta")).device.type == "meta"


@pytest.mark.parametrize("name", MODULES)
def test_modules(nn, name):
    module, x = getattr(nn, name)(0.5), torch.randn(20, 30, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not torch.equal(module(x), x)
        assert torch.equal(module.eval()(x), x)
    assert repr(module) == repr(getattr(torch.nn, name)(0.5))
    assert module.state_dict() == {}


@pytest.mark.parametrize("name", MODULES)
def test_modules_take_a_generator(name):
    x = torch.randn(20, 30, 4)
    module = getattr(ft, name)(0.5, generator=torch.Generator().manual_seed(1))
    again = copy.deepcopy(module)
    pickled = pickle.loads(pickle.dumps(module))
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = module(x)
        assert torch.equal(again(x), y)
        assert torch.equal(pickled(x), y)
        assert not torch.equal(module(x), y)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_is_refused_where_torch_takes_over():
    with pytest.raises(RuntimeError, match="generator must be None"):
        ft.functional.dropout(torch.ones(3, dtype=torch.int64), generator=torch.Generator())


def test_convert_keeps_modules_hooks_and_modes():
    calls = []
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4),
        torch.nn.Sequential(torch.nn.Dropout(0.3, inplace=True), torch.nn.AlphaDropout(0.2)),
    )
    dropout = model[1][0]
    dropout.register_forward_hook(lambda *_: calls.append(1))
    dropout.eval()
    state = model.state_dict().keys()
    assert ft.convert(model) is model
    assert model[1][0] is dropout
    assert isinstance(dropout, ft.Dropout)
    assert (dropout.p, dropout.inplace, dropout.training) == (0.3, True, False)
    assert isinstance(model[1][1], ft.AlphaDropout)
    assert model.state_dict().keys() == state
    model(torch.randn(2, 4))
    assert calls == [1]


def test_convert_leaves_subclasses_alone():
    class Mine(torch.nn.Dropout):
        pass

    assert type(ft.convert(Mine())) is Mine
