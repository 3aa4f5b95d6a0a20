"""enable, disable and enabled: what they reach, what they leave, and how they end."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from torch_support import no_warnings  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop.torch import _masks  # noqa: E402


@pytest.fixture
def keys(monkeypatch):
    """Collect the keys that masks are drawn for: one each time fastdrop does a dropout."""
    drawn = []
    original = _masks.new_key

    def new_key(generator):
        drawn.append(original(generator))
        return drawn[-1]

    address = _masks.new_key_address

    def new_key_address():
        at = address()
        drawn.append(tuple(_masks._key.parts[1]))
        return at

    for module in ("_attention", "_autograd", "_fast_path", "_native_dropout"):
        monkeypatch.setattr(f"fastdrop.torch.{module}.new_key", new_key)
    monkeypatch.setattr("fastdrop.torch._fast_path.new_key_address", new_key_address)
    return drawn


def test_importing_fastdrop_does_not_import_torch():
    code = "import sys, fastdrop; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_says_what_it_replaced(keys):
    with ft.enabled() as names:
        assert len(names) == 11
        others = {"aten::native_dropout_backward", "aten::scaled_dot_product_attention"}
        forward = [name for name in names if name not in others]
        for name in forward:
            operator = getattr(torch.ops.aten, name.removeprefix("aten::"))
            operator(torch.ones(5, 5, 5), 0.5, True)
    assert len(keys) == len(forward) == 9


REACHED = {
    "F.dropout": (1, lambda: F.dropout(torch.ones(5))),
    "nn.Dropout": (1, lambda: torch.nn.Dropout()(torch.ones(5))),
    "nn.Dropout2d": (1, lambda: torch.nn.Dropout2d()(torch.ones(2, 5, 3, 3))),
    "scaled_dot_product_attention": (
        1,
        lambda: F.scaled_dot_product_attention(*torch.ones(3, 1, 2, 3, 4), dropout_p=0.5),
    ),
    "nn.MultiheadAttention": (
        1,
        lambda: torch.nn.MultiheadAttention(4, 2, 0.5)(*torch.ones(3, 3, 2, 4)),
    ),
    "nn.TransformerEncoderLayer": (
        4,
        lambda: torch.nn.TransformerEncoderLayer(4, 2, 8, 0.5)(torch.ones(3, 2, 4)),
    ),
    "nn.LSTM": (2, lambda: torch.nn.LSTM(4, 4, 3, dropout=0.5)(torch.ones(3, 2, 4))),
    "inference mode": (1, lambda: _inference()),
    "nested, jagged": (1, lambda: F.dropout(_nested(layout=torch.jagged))),
    "nested, strided": (1, lambda: F.dropout(_nested())),
    "native_dropout": (1, lambda: torch.native_dropout(torch.ones(5), 0.5, True)),
}


def _nested(**layout):
    with no_warnings():  # a prototype
        return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], **layout)


def _inference():
    with torch.inference_mode():
        return F.dropout(torch.ones(5))


@pytest.mark.parametrize("what", REACHED)
def test_reaches_every_dropout(keys, what):
    count, run = REACHED[what]
    with ft.enabled():
        run()
    assert len(keys) == count
    assert len(set(keys)) == count
    run()
    assert len(keys) == count


@pytest.mark.slow  # importing transformers takes seconds
def test_reaches_hugging_face_models(keys):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    model = transformers.BertModel(
        transformers.BertConfig(vocab_size=9, num_hidden_layers=2, **sizes)
    )
    model.train()
    with ft.enabled():
        model(torch.zeros(2, 5, dtype=torch.int64))
    assert len(keys) == 1 + 3 * 2  # the embeddings', and three in each layer


class Subclass(torch.Tensor):
    pass


LEFT_ALONE = {
    "meta": lambda: F.dropout(torch.ones(5, device="meta")),
    "subclass": lambda: F.dropout(torch.ones(500).as_subclass(Subclass)),
    "float8": lambda: F.dropout(torch.ones(5).to(torch.float8_e4m3fn), training=False),
    "vmap": lambda: torch.vmap(F.dropout, randomness="different")(torch.ones(5, 100)),
    "grad": lambda: torch.func.grad(lambda x: F.dropout(x).sum())(torch.ones(500)),
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_leaves_the_rest_to_torch(keys, what):
    torch.manual_seed(0)
    expected = LEFT_ALONE[what]()
    with ft.enabled():
        torch.manual_seed(0)
        found = LEFT_ALONE[what]()
    assert not keys
    assert type(found) is type(expected)
    if expected.device.type == "cpu":
        assert torch.equal(found, expected)


@pytest.mark.parametrize("randomness", ["same", "different"])
@pytest.mark.parametrize("dropout", [F.dropout, ft.functional.dropout])
def test_vmap(dropout, randomness):
    with ft.enabled():
        y = torch.vmap(dropout, randomness=randomness)(torch.ones(4, 1000))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(y[0], y[1]) == (randomness == "same")


def test_sparse_tensors_stay_torchs():
    x = torch.eye(3).to_sparse()
    with pytest.raises(Exception) as torchs:  # noqa: PT011
        F.dropout(x)
    with ft.enabled(), pytest.raises(type(torchs.value)) as found:
        F.dropout(x)
    assert str(found.value) == str(torchs.value)


def _is_torchs():
    torch.manual_seed(0)
    y = F.dropout(torch.ones(1000))
    torch.manual_seed(0)
    return torch.equal(y, torch.empty(1000).bernoulli_(0.5).mul_(2))


def test_idempotent_and_reversible():
    assert _is_torchs()
    assert ft.enable() == ft.enable()
    try:
        assert ft.is_enabled()
        assert not _is_torchs()
        with ft.enabled():
            pass
        assert not _is_torchs()
    finally:
        ft.disable()
    assert not ft.is_enabled()
    assert _is_torchs()
    ft.disable()
    assert _is_torchs()


def test_enabled_blocks_overlap_in_threads():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with ft.enabled():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with ft.enabled():
        thread.start()
        inside.wait(10)
    assert ft.is_enabled()
    leave.set()
    thread.join()
    assert not ft.is_enabled()


def test_enabled_restores_after_an_error():
    with pytest.raises(ZeroDivisionError), ft.enabled():
        1 / 0  # noqa: B018
    assert not ft.is_enabled()


def test_threads_never_share_a_key(keys):
    def work():
        for _ in range(200):
            F.dropout(torch.ones(300))

    with ft.enabled():
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(keys) == 1600
    assert len(set(keys)) == 1600


class Masks(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return F.dropout(torch.ones(100_000))


def test_data_loader_workers_after_fork():
    with ft.enabled():
        F.dropout(torch.ones(1_000_000))  # the parent's threads have run before the fork
        loader = torch.utils.data.DataLoader(
            Masks(), num_workers=2, batch_size=None, multiprocessing_context="fork"
        )
        masks = [bytes(mask.numpy()) for mask in loader]
    assert len(set(masks)) == 8


def test_functional_dropout_calls_no_dispatcher_but_where_something_watches_it():
    x = torch.ones(100)
    assert "dropout" not in vars(torch._VF)
    with ft.enabled():
        assert torch._VF.dropout is not torch.dropout
        with torch.profiler.profile() as profile:
            F.dropout(x)
            F.dropout(x.clone(), inplace=True)
        with no_warnings():
            graph = str(torch.jit.trace(F.dropout, x, check_trace=False).graph)
    assert {"aten::dropout", "aten::dropout_"} <= {event.key for event in profile.key_averages()}
    assert "aten::dropout" in graph
    assert not {"dropout", "dropout_"} & set(vars(torch._VF))


@pytest.mark.parametrize("p", [1, 0, torch.tensor(0.5), torch.tensor(1.0)])
@pytest.mark.parametrize("inplace", [False, True])
def test_probabilities_that_are_no_python_floats(p, inplace):
    x = torch.ones(2000)
    with ft.enabled():
        values = set(F.dropout(x, p, inplace=inplace).tolist())
    p = float(p)
    assert values == ({0.0} if p == 1 else {1.0} if p == 0 else {0.0, 2.0})


@pytest.mark.parametrize("n", [16, 1000])
def test_tensors_that_stand_for_other_numbers(n):
    x = torch.randn(n)
    with ft.enabled():
        torch.manual_seed(0)
        expected = F.dropout(-x)
        torch.manual_seed(0)
        assert torch.equal(F.dropout(torch._neg_view(x)), expected)
        assert torch.equal(F.dropout(torch._efficientzerotensor(n)), torch.zeros(n))


def test_torchscript():
    with ft.enabled():
        with no_warnings():
            scripted = torch.jit.script(torch.nn.Dropout(0.5))
        assert set(scripted(torch.ones(1000)).tolist()) == {0.0, 2.0}


def test_every_backend_gives_the_same_masks(backend):
    x = torch.randn(2, 3000)
    with ft.enabled():
        torch.manual_seed(1)
        found = F.dropout(x, 0.1), F.dropout(x[:, ::7], 0.1), F.dropout(x[:, :9].bfloat16(), 0.1)
        with _using("reference"):
            torch.manual_seed(1)
            expected = (
                F.dropout(x, 0.1),
                F.dropout(x[:, ::7], 0.1),
                F.dropout(x[:, :9].bfloat16(), 0.1),
            )
    for f, e in zip(found, expected, strict=True):
        assert torch.equal(f, e)


def _using(name):
    import fastdrop

    return fastdrop.use_backend(name)
