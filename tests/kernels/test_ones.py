"""Keep bits as numbers, and affine forms by address: what torch's side asks of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from fastdrop import ARS4x32, _cy, use_backend
from fastdrop.backends import Draw
from fastdrop.backends.form import Form
from fastdrop.mask_format import rate
from fastdrop.masks.mask import Mask
from fastdrop.rng.base import Stream

core = _cy.core
pytestmark = pytest.mark.skipif(core is None, reason="needs the compiled kernels")

KEY = (0x0123456789ABCDEF, 0x7EDCBA9876543210)
SIZES = [1, 7, 8, 31, 33, 64, 4096, 4097, 70_001, 600_000]


def mask(p: float, shape: tuple[int, ...]) -> Mask:
    return Mask(Draw(Stream(ARS4x32, np.array(KEY, np.uint64)), 0, rate(p)), shape)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("item", "one"), [(1, 1), (2, 0x3F80)])
@pytest.mark.parametrize("threads", [1, 2])
def test_ones_are_the_references_bits(n: int, item: int, one: int, threads: int, isa: str) -> None:
    dtype = np.uint8 if item == 1 else np.uint16  # NumPy has no bfloat16
    out = np.full(n + 1, 7, dtype)
    fill = core.fill_address(ARS4x32.name)
    status = core.ones_by(None, fill, *KEY, rate(0.3).threshold, n, out.ctypes.data, item, threads)
    assert status == 0
    with use_backend("reference"):
        expected = mask(0.3, (n,)).to_bool()
    assert np.array_equal(out[:n], np.where(expected, one, 0))
    assert out[n] == 7


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (5000,), (3, 70_001), (9, 40, 5)])
@pytest.mark.parametrize("transposed", [False, True])
def test_affine_forms_by_address(
    shape: tuple[int, ...], transposed: bool, dtype: type, isa: str
) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    if transposed:
        x = x.T.copy().T
    y, expected = np.empty_like(x), np.empty_like(x)
    steps = [tuple(s // a.itemsize for s in a.strides) for a in (x, y)]
    code = {np.float16: 0, np.float32: 2, np.float64: 3}[dtype]
    fill, form = core.fill_address(ARS4x32.name), Form("affine", 0.25, -1.5)
    where = (x.ctypes.data, steps[0], y.ctypes.data, steps[1])
    status = core.apply_by(
        None,
        fill,
        *KEY,
        rate(0.3).threshold,
        1.25,
        code,
        shape,
        *where,
        2,
        form.shift,
        form.dropped,
    )
    assert status == 0
    stream = Stream(ARS4x32, np.array(KEY, np.uint64))
    drawn = Mask(Draw(stream, 0, rate(0.3).with_scale(1.25)), shape)
    with use_backend("reference"):
        drawn.write(form, x, expected)
    assert np.array_equal(y, expected)
