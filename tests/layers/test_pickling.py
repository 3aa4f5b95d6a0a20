"""Masks and layers that travel: no address may come along."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from paths import DATA

import fastdrop

RNGS = [7, np.random.PCG64(7), np.random.Philox(7), np.random.MT19937(7), np.random.SFC64(7)]
IDS = ["ARS4x32", "PCG64", "Philox", "MT19937", "SFC64"]

LOAD = """
import pickle, sys
import numpy as np
mask = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[2], mask.to_bool())
"""


def draw(rng: object) -> fastdrop.Mask:
    _, mask = fastdrop.dropout(np.ones((3, 5000)), 0.3, rng=rng, return_mask=True)
    return mask


@pytest.mark.parametrize("rng", RNGS, ids=IDS)
def test_mask_rebuilds_in_another_process(rng: object, tmp_path: Path) -> None:
    mask = draw(rng)
    source, target = tmp_path / "mask.pickle", tmp_path / "mask.npy"
    source.write_bytes(pickle.dumps(mask))
    subprocess.run([sys.executable, "-c", LOAD, str(source), str(target)], check=True)
    np.testing.assert_array_equal(np.load(target), mask.to_bool())


@pytest.mark.parametrize("rng", RNGS, ids=IDS)
def test_copied_mask_outlives_the_original(rng: object) -> None:
    mask = draw(rng)
    expected, twin = mask.to_bool(), copy.deepcopy(mask)
    del mask
    clutter = [np.full(64, 0xAA, np.uint8) for _ in range(1000)]  # takes the place of freed keys
    np.testing.assert_array_equal(twin.to_bool(), expected)
    assert len(clutter) == 1000


@pytest.mark.parametrize("rng", RNGS, ids=IDS)
def test_layer_resumes_after_pickling(rng: object) -> None:
    layer = fastdrop.Dropout(0.4, rng=rng)
    x = np.ones(9000, np.float32)
    layer(x)
    twin = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(twin(x), layer(x))
    np.testing.assert_array_equal(np.asarray(twin.mask), np.asarray(layer.mask))


def test_key_of_the_wrong_size_is_refused() -> None:
    class Short(fastdrop.Philox):
        name = "philox"

        @classmethod
        def seed_key(cls, seed: object) -> np.ndarray:
            return np.zeros(1, np.uint64)

    with pytest.raises(ValueError, match="must have 6 words"):
        Short(0)


def test_identity_with_a_bad_rng_writes_nothing() -> None:
    out = np.zeros(4)
    with pytest.raises(ValueError, match="rng must be one of"):
        fastdrop.dropout(np.ones(4), 0.5, False, out=out, rng="bogus")
    assert not out.any()


# Pickles of public objects, made before modules moved: rate 0.3, seed 7. The default generator was
# another one.
OLD = json.loads((DATA / "pickles.json").read_text())


@pytest.mark.parametrize("name", OLD)
def test_old_pickles_load(name: str) -> None:
    found = pickle.loads(zlib.decompress(base64.b64decode(OLD[name])))
    assert type(found).__module__.startswith("fastdrop.")
    if name.startswith("layer"):
        # It resumes behind the draw that it was pickled after.
        x = np.ones((4, 3, 8, 8), np.float32)
        kind, arguments = type(found), {"block_size": 3} if "Block" in name else {}
        rng = fastdrop.Philox4x32(7)
        fresh = kind(0.5 if kind is fastdrop.GaussianNoise else 0.3, rng=rng, **arguments)
        fresh(x)
        np.testing.assert_array_equal(found(x), fresh(x))
    elif name.startswith("rng"):
        assert found.state == type(found)(7).state
    else:
        ones = np.ones(found.shape, np.float32)
        assert 0 < np.count_nonzero(found.apply(ones)) <= ones.size
