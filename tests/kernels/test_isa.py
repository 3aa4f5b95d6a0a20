"""A choice of the instruction set holds for all that was made before it, pipelines included."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest
from support import DTYPES, any_bits, contents, dtype_of, reference

import fastdrop
from fastdrop import _cy
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK, rate
from fastdrop.masks.mask import Mask
from fastdrop.rng import DEFAULT, PCG64, Philox, Philox4x32
from fastdrop.rng.capsule import FILL

core: Any = _cy.core
if core is None:
    pytest.skip("no compiled extension here", allow_module_level=True)

X86 = platform.machine() == "x86_64"

# Made before any test chooses.
EARLY = {kind: kind(3).reserve(0)[0] for kind in (DEFAULT, Philox4x32, Philox, PCG64)}


def pipeline(isa: str, kind: Any) -> str | None:
    """Return the set whose pipeline a generator should have there, None for none."""
    if kind is DEFAULT and isa in ("baseline", "aes") and X86:
        return None
    return isa


@pytest.mark.parametrize("p", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("kind", [DEFAULT, Philox4x32])
def test_each_instruction_sets_pipeline_runs(
    isa: str, threads: int, kind: Any, name: str, p: float
) -> None:
    dtype = dtype_of(name)
    x = any_bits((40 * BLOCK + 5,), dtype)
    mask = Mask(Draw(EARLY[kind], 0, rate(p)), x.shape)
    core.newest_pipeline()
    y = mask.apply(x)
    assert core.newest_pipeline() == pipeline(isa, kind)
    assert contents(y) == contents(reference(mask, x))
    fastdrop.dropout(x, p, rng=kind(1))
    assert core.newest_pipeline() == pipeline(isa, kind)


@pytest.mark.parametrize("kind", [DEFAULT, Philox4x32])
def test_each_instruction_sets_pipeline_adds_a_residual(isa: str, threads: int, kind: Any) -> None:
    x, residual = np.random.default_rng(0).normal(size=(2, 40 * BLOCK)).astype(np.float32)
    core.newest_pipeline()
    y, mask = fastdrop.dropout_add(x, residual, 0.1, rng=kind(1), return_mask=True)
    assert core.newest_pipeline() == pipeline(isa, kind)
    assert contents(y) == contents(reference(mask, x) + residual)


def test_what_has_no_pipeline_runs_none(isa: str) -> None:
    """So the tests above can fail."""
    x = np.ones(40 * BLOCK, np.float32)
    core.newest_pipeline()
    Mask(Draw(EARLY[Philox], 0, rate(0.1)), x.shape).apply(x)
    Mask(Draw(EARLY[DEFAULT], 0, rate(0.1), 1), x.shape).apply(x)
    fastdrop.dropout(x[:BLOCK], 0.1)
    assert core.newest_pipeline() is None


@pytest.mark.parametrize("kind", EARLY)
def test_a_generator_has_one_address(isa: str, kind: Any) -> None:
    """Capsules and other people's code keep it; the words come from the chosen instruction set."""
    address = core.fill_address(kind.name)
    assert address == EARLY[kind].fill_address == kind.opened().address
    out = np.empty(1000, np.uint64)
    assert FILL(address)(EARLY[kind].key_address, 7, 1000, out.ctypes.data) == 0
    np.testing.assert_array_equal(out, EARLY[kind].words(7, 1000))
