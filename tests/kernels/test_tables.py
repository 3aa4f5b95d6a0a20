"""Names and codes of dtypes, forms and generators: Python's and C's are one set, paired by name."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from support import dtype_of

import fastdrop
from fastdrop._cy import core
from fastdrop.arrays import DTYPES
from fastdrop.backends.form import KEPT
from fastdrop.mask_format import rate
from fastdrop.rng import BUILTIN

pytestmark = pytest.mark.skipif(core is None, reason="the extension is not built")

NOT_OURS = ["bool", "int8", "uint16", "int32", "uint64", "longdouble", "clongdouble", "M8"]
NOT_OURS += ["float8_e5m2", "int4"]  # ml_dtypes'


def foreign(name: str) -> np.dtype:
    """Return a dtype that no kernel knows."""
    if name in ("float8_e5m2", "int4"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def apply(x: np.ndarray) -> int:
    """Call the extension as the backend does, but without a check of x."""
    stream, draw = fastdrop.ARS4x32(1).reserve(1)
    half = rate(0.5)
    source = stream.fill_address, stream.key_address
    return core.apply(*source, draw, half.threshold, half.scale, 0, x, x.copy(), 1)


def test_the_kernels_know_the_dtypes_that_python_lets_in() -> None:
    assert tuple(core.DTYPES) == DTYPES
    assert sorted(core.DTYPES.values()) == list(range(len(DTYPES)))


def test_forms_have_one_name_in_python_and_in_c() -> None:
    assert set(core.FORMS) == set(KEPT)
    assert sorted(core.FORMS.values()) == list(range(len(KEPT)))


def test_generators_have_one_name_in_python_in_c_and_in_numba() -> None:
    names = {kind.name for kind in BUILTIN}
    assert set(core.GENERATORS) == names
    pytest.importorskip("numba")
    from fastdrop.backends.numba.generators import FILLS

    assert set(FILLS) == names | {"sequential"}


@pytest.mark.parametrize("kind", KEPT)
def test_a_form_takes_as_many_operands_in_python_as_in_c(kind: str) -> None:
    parameters = inspect.signature(KEPT[kind]).parameters  # x, scale and shift come first
    assert core.OPERANDS[kind] == len(parameters) - 3


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_is_known_by_its_number(name: str) -> None:
    x = np.ones(8, dtype_of(name))
    assert apply(x) == 0


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_dtype_without_kernels_is_refused_by_its_number(name: str) -> None:
    dtype = foreign(name)
    with pytest.raises(TypeError, match=rf"type number {dtype.num}\b.*{dtype.name}"):
        apply(np.zeros(8, dtype))
    apply(np.ones(8, dtype_of("bfloat16")))
    with pytest.raises(TypeError, match=rf"type number {dtype.num}\b"):
        apply(np.zeros(8, dtype))


def test_every_entrance_refuses_it() -> None:
    stream, draw = fastdrop.ARS4x32(1).reserve(1)
    half, x = rate(0.5), np.zeros(8, np.int16)
    source = stream.fill_address, stream.key_address
    numbers = core.FORMS["scale"], 2.0, 0.0, 0.0
    with pytest.raises(TypeError, match="type number"):
        core.evaluate(*source, draw, half.threshold, 0, (1,), 0, *numbers, (x,), x, 1)
    with pytest.raises(TypeError, match="type number"):
        core.evaluate_bits(np.zeros(1, np.uint64), (1,), *numbers, (x,), x, 1)
    with pytest.raises(TypeError, match="type number"):
        core.add_noise(*source, draw, False, 1.0, x, x, 1)
