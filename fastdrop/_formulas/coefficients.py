"""Coefficients of the elementary functions.

Written by tools/coefficients.py, which fits them: change that and run it again.
"""

from typing import Any, Final, NamedTuple

import numpy as np


class Coefficients(NamedTuple):
    """Polynomials, highest power first, and numbers, of one precision."""

    exp: np.ndarray[Any, Any]
    log: np.ndarray[Any, Any]
    mills_above: np.ndarray[Any, Any]
    mills_below: np.ndarray[Any, Any]
    quantile_above: np.ndarray[Any, Any]
    quantile_below: np.ndarray[Any, Any]
    log2: Any
    log2_upper: Any
    log2_lower: Any
    per_log2: Any
    root_half: Any
    peak: Any
    tanh_1: Any
    tanh_3: Any
    tanh_3_slope: Any


# fmt: off
SINGLE: Final = Coefficients(
    exp=np.array([
        1.9863305e-04, 1.3948474e-03, 8.333382e-03, 4.166631e-02, 1.6666666e-01, 5.0e-01,
    ], np.float32),
    log=np.array([
        2.9580608e-01, 3.9988762e-01, 6.6666687e-01,
    ], np.float32),
    mills_above=np.array([
        4.0158015e-03, 3.9954428e-02, 1.8121819e-01, 4.3556616e-01, 5.0e-01,
    ], np.float32),
    mills_below=np.array([
        1.0065977e-02, 1.0015833e-01, 4.6414658e-01, 1.1941154e+00, 1.6690173e+00, 1.0e+00,
    ], np.float32),
    quantile_above=np.array([
        2.381372e+00, 2.0410526e+01, 3.1879427e+01, 4.906163e+00,
    ], np.float32),
    quantile_below=np.array([
        1.6833477e+00, 1.4470278e+01, 2.5125278e+01, 1.1892583e+01, 1.0e+00,
    ], np.float32),
    log2=np.float32(6.931472e-01),
    log2_upper=np.float32(6.9314575e-01),
    log2_lower=np.float32(1.4286068e-06),
    per_log2=np.float32(1.442695e+00),
    root_half=np.float32(7.0710677e-01),
    peak=np.float32(3.989423e-01),
    tanh_1=np.float32(1.5957692e+00),
    tanh_3=np.float32(7.1354814e-02),
    tanh_3_slope=np.float32(2.1406445e-01),
)
DOUBLE: Final = Coefficients(
    exp=np.array([
        2.0893387601239907e-09, 2.5122821545317256e-08, 2.7557373941557547e-07,
        2.7557206116262547e-06, 2.4801587168382816e-05, 1.9841269920387226e-04,
        1.3888888888981175e-03, 8.333333333310754e-03, 4.166666666666646e-02,
        1.6666666666666685e-01, 5.0e-01,
    ], np.float64),
    log=np.array([
        1.4617004207023543e-01, 1.5331673580687938e-01, 1.818289068390124e-01,
        2.2222211111490356e-01, 2.857142862613289e-01, 3.9999999999899116e-01,
        6.66666666666667e-01,
    ], np.float64),
    mills_above=np.array([
        1.3708274601038383e-06, 3.6919576141688845e-05, 4.8672848774157935e-04,
        4.063775561446083e-03, 2.350206593052112e-02, 9.730502751966791e-02,
        2.8845332025039405e-01, 5.928141468597962e-01, 7.740227141884521e-01, 5.0e-01,
    ], np.float64),
    mills_below=np.array([
        3.4361548711485744e-06, 9.254365344177179e-05, 1.2234835445309416e-03,
        1.0278918365436138e-02, 6.012411850713886e-02, 2.5390880830026435e-01,
        7.795507133016878e-01, 1.7104208118853614e+00, 2.5574096128108588e+00,
        2.3459299891797603e+00, 1.0e+00,
    ], np.float64),
    quantile_above=np.array([
        1.2137655667028985e-01, 7.346916563713501e+00, 1.2608594137597653e+02,
        8.73670666335747e+02, 2.9852317256653605e+03, 5.658424336408775e+03,
        5.462042294361002e+03, 2.0050792432620851e+03, 2.3786325412807534e+02,
        5.921217179265847e+00,
    ], np.float64),
    quantile_below=np.array([
        8.582496306273828e-02, 5.195419064018471e+00, 8.936516784236692e+01,
        6.262617394351315e+02, 2.211173454254127e+03, 4.470240741853235e+03,
        4.953951481298316e+03, 2.719608748652845e+03, 6.537214480549862e+02,
        5.579157383615684e+01, 1.0e+00,
    ], np.float64),
    log2=np.float64(6.931471805599453e-01),
    log2_upper=np.float64(6.931471805598903e-01),
    log2_lower=np.float64(5.497923018708371e-14),
    per_log2=np.float64(1.4426950408889634e+00),
    root_half=np.float64(7.071067811865476e-01),
    peak=np.float64(3.989422804014327e-01),
    tanh_1=np.float64(1.5957691216057308e+00),
    tanh_3=np.float64(7.135481627260025e-02),
    tanh_3_slope=np.float64(2.1406444881780073e-01),
)
