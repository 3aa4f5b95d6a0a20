"""The table of functions for extensions in C (fastdrop.h): places, answers, versions."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capsules import address_of, capsule, generator
from paths import EXAMPLES
from support import DTYPES, any_bits, contents, dtype_of

import fastdrop
from fastdrop.mask_format import rate
from fastdrop.rng.capsule import FILL, pointer_of

CAPSULE = fastdrop._C_API
pytestmark = pytest.mark.skipif(CAPSULE is None, reason="no compiled extension here")

NO_MEMORY, UNWRITTEN, BAD_ARGUMENT = (-(2**31) + i for i in range(3))
U64, INT, ADDRESS = ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p


class CMask(ctypes.Structure):
    """fastdrop_mask, written down a second time."""

    _fields_ = (
        ("fill", ADDRESS),
        ("key", ADDRESS),
        ("draw", U64),
        ("threshold", U64),
        ("first", U64),
        ("scale", ctypes.c_double),
    )


MASK = ctypes.POINTER(CMask)
# Frozen: extensions that have been built have these places compiled in. New functions come last.
PLACES = {
    "fill": (8, ctypes.CFUNCTYPE(ADDRESS, ctypes.c_char_p)),
    "threshold": (16, ctypes.CFUNCTYPE(U64, ctypes.c_double)),
    "words": (24, ctypes.CFUNCTYPE(U64, U64, U64)),
    "block_bits": (32, ctypes.CFUNCTYPE(INT, MASK, U64, ADDRESS)),
    "bits": (40, ctypes.CFUNCTYPE(INT, MASK, U64, U64, ADDRESS)),
    "apply": (
        48,
        ctypes.CFUNCTYPE(INT, MASK, U64, INT, INT, *[ADDRESS] * 5),
    ),
    "open_mask": (56, ctypes.PYFUNCTYPE(INT, ctypes.py_object, MASK)),
}
SIZE = 64


class Table:
    """The table's functions, found by their places."""

    def __init__(self) -> None:
        self.at = pointer_of(CAPSULE, b"fastdrop._C_API")
        for name, (place, kind) in PLACES.items():
            setattr(self, name, kind(ADDRESS.from_address(self.at + place).value))


if CAPSULE is not None:
    table: Any = Table()


def opened(mask: fastdrop.Mask) -> CMask:
    found = CMask()
    assert table.open_mask(mask, ctypes.byref(found)) == 0
    return found


def applied(mask: CMask, first: int, x: np.ndarray, y: np.ndarray, dtype: int) -> int:
    shape, x_strides, y_strides = (
        (ctypes.c_ssize_t * max(x.ndim, 1))(*numbers) for numbers in (x.shape, x.strides, y.strides)
    )
    where = x.ctypes.data, x_strides, y.ctypes.data, y_strides
    return table.apply(ctypes.byref(mask), first, dtype, x.ndim, shape, *where)


def test_version_and_size() -> None:
    assert ctypes.c_uint32.from_address(table.at).value == 1
    assert ctypes.c_uint32.from_address(table.at + 4).value == SIZE
    assert ctypes.sizeof(CMask) == 48


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_and_words(seed: int) -> None:
    random = np.random.default_rng(seed)
    known = [0.0, -0.0, 1.0, 0.5, 0.1, 5e-324, 2.0**-41, 1.5 * 2.0**-40, 2.5 * 2.0**-40, 1 - 2**-53]
    for p in [*known, *random.random(200), *np.exp(-random.exponential(20, 200))]:
        threshold = table.threshold(p)
        assert threshold == rate(float(p)).threshold
        for n in (0, 1, 4096, 4097, 2**62):
            assert table.words(threshold, n) == rate(float(p)).words(n)
    for wrong in (math.nan, -1e-300, 1 + 2**-52, math.inf):
        assert table.threshold(wrong) == 2**64 - 1
    assert table.words(2**64 - 1, 5) == 0


def test_built_in_generators() -> None:
    for cls in (fastdrop.ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64):
        rng = cls(5)
        out = np.zeros(100, np.uint64)
        fill = FILL(table.fill(cls.name.encode()))
        assert fill(rng.key.ctypes.data, 7, 100, out.ctypes.data) == 0
        np.testing.assert_array_equal(out, np.r_[rng.random_raw(107)][7:])
    assert table.fill(b"sequential") is None
    assert table.fill(b"") is None


@pytest.mark.parametrize("p", [0.5, 0.1, 0.0, 1.0, 1e-9])
def test_bits_are_those_of_python(p: float) -> None:
    whole = fastdrop.mask((3, 7001), p, rng=9)
    kept = whole.to_bool().ravel()
    mask = opened(whole)
    for first, n in ((0, 21003), (1, 64), (4095, 2), (4096, 4096), (13, 0), (7001, 7001)):
        out = np.full(-(-n // 64) + 1, 0xA5A5A5A5A5A5A5A5, np.uint64)
        assert table.bits(ctypes.byref(mask), first, n, out.ctypes.data) == 0
        bits = np.unpackbits(out.view(np.uint8), bitorder="little")
        np.testing.assert_array_equal(bits[:n], kept[first : first + n])
        assert not bits[n : -(-n // 64) * 64].any()
        assert out[-1] == 0xA5A5A5A5A5A5A5A5
    out = np.zeros(64, np.uint64)
    assert table.block_bits(ctypes.byref(mask), 3, out.ctypes.data) == 0
    np.testing.assert_array_equal(
        np.unpackbits(out.view(np.uint8), bitorder="little"), kept[12288:16384]
    )
    row = opened(whole[1])  # a part is a mask whose elements begin later
    assert row.first == 7001
    assert table.block_bits(ctypes.byref(row), 0, out.ctypes.data) == 0
    np.testing.assert_array_equal(
        np.unpackbits(out.view(np.uint8), bitorder="little"), kept[7001:11097]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_apply_is_that_of_python(dtype: str) -> None:
    code = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"].index(dtype)
    whole = any_bits((40, 3, 250), dtype_of(dtype))
    for x in (whole, whole[::-2, :, 1::3], whole.T, whole[0, 0, 0, ...], whole[:0]):
        mask = fastdrop.mask(x.shape, 0.3, rng=9)
        for y in (np.zeros_like(x), np.zeros(x.shape, x.dtype)):
            assert applied(opened(mask), 0, x, y, code) == 0
            assert contents(y) == contents(mask.apply(x))
    mask = fastdrop.mask(whole.shape, 0.3, rng=9)
    y = whole.copy()
    for row in (7, 0, 39):
        assert applied(opened(mask), row * 750, y[row], y[row], code) == 0
        assert contents(y[row]) == contents(mask[row].apply(whole[row]))


def test_wrong_arguments_write_nothing() -> None:
    x, y = np.ones(8, np.float32), np.full(8, 7, np.float32)
    right = opened(fastdrop.mask(8, rng=1))
    for field, wrong in (("fill", None), ("key", None), ("threshold", 2**40 + 1)):
        mask = CMask.from_buffer_copy(right)
        setattr(mask, field, wrong)
        assert applied(mask, 0, x, y, 2) == BAD_ARGUMENT
        assert table.bits(ctypes.byref(mask), 0, 8, y.ctypes.data) == BAD_ARGUMENT
        assert table.block_bits(ctypes.byref(mask), 0, y.ctypes.data) == BAD_ARGUMENT
    for first in (0, 1 << 63):  # numbers of elements have 64 bits
        late = CMask.from_buffer_copy(right)
        late.first = 2**64 - 1 - first
        where = ctypes.byref(late), first - (first == 0) + 1, 8, y.ctypes.data
        assert table.bits(*where) == BAD_ARGUMENT
        assert applied(late, first, x, y, 2) == BAD_ARGUMENT
    assert table.block_bits(ctypes.byref(right), 2**52, y.ctypes.data) == BAD_ARGUMENT
    assert opened(fastdrop.mask((4, 3), rng=1)[0:0, 1:]).draw == 0
    assert applied(right, 0, x, y, 6) == BAD_ARGUMENT
    assert applied(right, 0, x, y, -1) == BAD_ARGUMENT
    shape = (ctypes.c_ssize_t * 65)(*[-1] * 65)
    for ndim in (-1, 1, 65):
        where = x.ctypes.data, shape, y.ctypes.data, shape
        assert table.apply(ctypes.byref(right), 0, 2, ndim, shape, *where) == BAD_ARGUMENT
    assert (y == 7).all()


@pytest.mark.parametrize(
    ("fill", "expected"), [(lambda key, position, n, out: 42, 42), (lambda *_: 0, UNWRITTEN)]
)
def test_a_failing_fill_is_reported(fill: Any, expected: int) -> None:
    rng = generator(capsule(fill=address_of(fill)))(1)
    mask = opened(fastdrop.mask(9, rng=rng))
    x, out = np.ones(9, np.float32), np.zeros(64, np.uint64)
    assert applied(mask, 0, x, np.empty_like(x), 2) == expected
    assert table.block_bits(ctypes.byref(mask), 0, out.ctypes.data) == expected


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (5, TypeError, "must be a fastdrop.Mask, but got int"),
        (
            fastdrop.ArrayMask(np.ones(3, bool), p=0.5),
            TypeError,
            "must be a fastdrop.Mask, but got ArrayMask",
        ),
        (fastdrop.mask(5, rng=np.random.MT19937(1)), TypeError, "random access"),
        (
            fastdrop.mask((5, 4), broadcast_dims=[0], rng=1),
            ValueError,
            "shared or a window with gaps",
        ),
        (fastdrop.mask((5, 4), rng=1)[:, 1:], ValueError, "shared or a window with gaps"),
        (fastdrop.Mask, TypeError, "must be a fastdrop.Mask, but got type"),
    ],
)
def test_masks_that_c_cannot_have(mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        table.open_mask(mask, ctypes.byref(CMask()))


def test_the_header_and_the_pxd_declare_the_same() -> None:
    header = Path(fastdrop.get_include(), "fastdrop.h").read_text()
    pxd = Path(fastdrop.__file__).with_name("__init__.pxd").read_text()
    struct = header[header.index("typedef struct {\n    uint32_t abi_version") :]
    functions = re.findall(r"\(\*(\w+)\)\(", struct[: struct.index("} fastdrop_api;")])
    assert functions == list(PLACES)
    declared = re.findall(r"\(\*(\w+)\)\(", pxd[pxd.index("ctypedef struct fastdrop_api") :])
    assert declared == functions


# An extension that was built, with another table than the one it was built for.

RUN = """
import ctypes, sys
import fastdrop
from fastdrop.rng.capsule import pointer_of, _new
if sys.argv[1] == "none":
    fastdrop._C_API = None
else:
    version, size = map(int, sys.argv[1:])
    name = b"fastdrop._C_API"
    table = bytearray(ctypes.string_at(pointer_of(fastdrop._C_API, name), 64) + bytes(64))
    table[:8] = version.to_bytes(4, "little") + size.to_bytes(4, "little")
    memory = (ctypes.c_char * 128).from_buffer(table)
    fastdrop._C_API = _new(ctypes.addressof(memory), name, None)
import demo
"""


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.environ.get("CI") != "true" and not any(map(shutil.which, ("cc", "gcc", "clang", "cl"))):
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("c_extension")
    shutil.copytree(EXAMPLES / "c_extension", folder, dirs_exist_ok=True)
    build = run_in(folder, "setup.py", "-q", "build_ext", "--inplace")
    assert build.returncode == 0, build.stdout + build.stderr
    assert "warning" not in build.stderr
    return folder


def run_in(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(fastdrop.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "CFLAGS": "-Wall -Wextra"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("1", "64"), ""),
        (("1", "128"), ""),  # a later version's, which is longer
        (("1", "56"), "must have version 1 and 64 bytes or more, but has version 1 and 56"),
        (("2", "64"), "must have version 1 and 64 bytes or more, but has version 2 and 64"),
        (("none",), "no compiled kernels here"),
    ],
)
def test_an_extension_meets_another_table(
    extension: Path, arguments: tuple[str, ...], error: str
) -> None:
    result = run_in(extension, "-c", RUN, *arguments)
    if error:
        assert result.returncode == 1
        assert "ImportError" in result.stderr
        assert error in result.stderr
    else:
        assert result.returncode == 0, result.stderr
        assert "NumPy: [" in result.stdout
