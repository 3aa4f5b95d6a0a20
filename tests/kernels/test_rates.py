"""Words and masks are the reference's bit for bit, also on sets that differ in nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from isas import backend_of_masks
from support import any_bits, check, packed, poisoned

import fastdrop
from fastdrop.mask_format import BLOCK, STRIP

backend = backend_of_masks

GENERATORS = [fastdrop.ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64]
FIRST_PLANES = [0.5, 0.75, 0.125, 7 / 16]
SECOND_PLANES = [31 / 32, 1 / 64, 3 / 128, 255 / 256, 1 / 512, 1 - 2**-10, 3 / 2048, 1 / 4096]
REFINED = [0.1, 0.3, 0.9, 1 / 8192, 1 - 2**-13, 2**-33]
EXTREME = [1.0, 1e-12, 1e-300, 5e-324, 2**-40, 2**-41, 1 - 2**-40, 1 - 2**-41, 1 - 2**-53]
RATES = FIRST_PLANES + SECOND_PLANES + REFINED + EXTREME

SIZES = sorted(
    {max(0, n + d) for n in (0, 8, 64, STRIP, BLOCK, 3 * BLOCK) for d in (-9, -1, 0, 1, 7)}
)


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("cls", GENERATORS)
def test_rates(backend: str, cls: Any, p: float) -> None:
    mask = check(any_bits((2 * BLOCK + 77,), np.float32), p, cls(1))
    bits = packed(mask)
    with fastdrop.use_backend("reference"):
        np.testing.assert_array_equal(bits, packed(mask))


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("n", SIZES)
def test_sizes_around_blocks(backend: str, n: int, p: float) -> None:
    mask = check(any_bits((n,), np.float32), p, out=poisoned((n,), np.float32))
    bits = packed(mask)
    with fastdrop.use_backend("reference"):
        np.testing.assert_array_equal(bits, packed(mask))
