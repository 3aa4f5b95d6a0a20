/* float16 and bfloat16 to float32 and back, rounding once, to nearest even. */
#ifndef DROP_HALF_H
#define DROP_HALF_H

#include "kernels/vec.h"

/* The nearest bfloat16 in the upper half of each lane; the lower half is junk. */
DROP_INLINE vu32 round_bf16(vf32 v)
{
    vu32 bits = (vu32)v, rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    /* Rounding could carry a NaN over into infinity. */
#if DROP_AVX512
    __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    return (vu32)_mm512_mask_or_epi32((__m512i)rounded, is_nan, (__m512i)bits,
                                      _mm512_set1_epi32(0x400000));
#else
    vu32 is_nan = (vu32)(v != v);
    return (rounded & ~is_nan) | ((bits | 0x400000u) & is_nan);
#endif
}

/* Whether no product of a bfloat16 and `scale` lies halfway between two bfloat16, once it is a float32:
 * then rounding halves up is rounding to nearest even, and cheaper. A bfloat16 is m units, m < 256,
 * and so is the product, in units twice as large where it would be more than 255. A float32 has
 * 16 bits behind the unit's, and rounds to a half what is within 2^-17 of one. */
static int has_no_halves(float scale)
{
    uint32_t bits, halves = 0;
    memcpy(&bits, &scale, sizeof bits);
    const uint32_t fraction = bits & 0x7fffff, significand = fraction | 0x800000;
    if (!(scale >= 1 && (scale < 2 || fraction == 0))) return 0; /* rare: no code for other units */
    for (uint32_t m = 0; m < 256; m++) {
        const uint32_t product = m * significand; /* with 23 bits behind the unit's, or 24 */
        const uint32_t part = product >> 31 ? product << 8 : product << 9;
        halves |= part - 0x7fff8000u <= 0x10000u;
    }
    return !halves;
}

/* Upper halves of numbers, rounded to nearest even: 1 more where lower > 0x8000 - the upper's last bit. */
DROP_INLINE vu16 round_upper(vu16 upper, vu16 lower)
{
    const vu16 least = (~upper & 1) | 0x8000u;
#if DROP_AVX512
    const __mmask32 up = _mm512_cmpge_epu16_mask((__m512i)lower, (__m512i)least);
    return (vu16)_mm512_mask_add_epi16((__m512i)upper, up, (__m512i)upper, _mm512_set1_epi16(1));
#else
    return upper - (vu16)(lower >= least);
#endif
}

#if DROP_AVX512

DROP_INLINE vf32 widen_f16(vh16 h) { return (vf32)_mm512_cvtph_ps((__m256i)h); }
DROP_INLINE vh16 narrow_f16(vf32 v)
{
    return (vh16)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
}

#elif DROP_AVX2 && DROP_F16C

DROP_INLINE vf32 widen_f16(vh16 h) { return (vf32)_mm256_cvtph_ps((__m128i)h); }
DROP_INLINE vh16 narrow_f16(vf32 v)
{
    return (vh16)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
}

#elif DROP_F16C

DROP_INLINE vf32 widen_f16(vh16 h)
{
    __m128i half = _mm_setzero_si128();
    memcpy(&half, &h, sizeof h);
    return (vf32)_mm_cvtph_ps(half);
}

DROP_INLINE vh16 narrow_f16(vf32 v)
{
    const __m128i half = _mm_cvtps_ph((__m128)v, _MM_FROUND_TO_NEAREST_INT);
    return DROP_LOAD(vh16, &half);
}

#else

/* Exponents are moved by multiplying, which also makes subnormals come out
 * right; infinity and NaN then get the exponent that a product cannot give. */
DROP_INLINE vf32 widen_f16(vh16 h)
{
    vu32 w = __builtin_convertvector(h, vu32), sign = (w & 0x8000u) << 16;
    vu32 magnitude = (w & 0x7fffu) << 13;
    vu32 special = (vu32)(magnitude >= 0x0f800000u);
    vu32 finite = (vu32)((vf32)magnitude * 0x1p112f);
    vu32 is_nan = (vu32)(magnitude > 0x0f800000u);
    vu32 infinite = magnitude | 0x7f800000u | (is_nan & 0x400000u);
    return (vf32)(sign | (finite & ~special) | (infinite & special));
}

DROP_INLINE vh16 narrow_f16(vf32 v)
{
    vu32 bits = (vu32)v, sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    vu32 is_nan = (vu32)(magnitude > 0x7f800000u);
    vu32 too_large = (vu32)(magnitude >= 0x47800000u); /* 65536 and more, also NaN */
    vu32 tiny = (vu32)(magnitude < 0x38800000u);       /* a subnormal half, or zero */
    /* Adding 0.5 leaves just the bits of a subnormal half, rounded by the hardware. */
    vu32 subnormal = (vu32)((vf32)magnitude + 0.5f) - 0x3f000000u;
    vu32 normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    vu32 nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    vu32 large = (nan & is_nan) | (0x7c00u & ~is_nan);
    vu32 small = (subnormal & tiny) | (normal & ~tiny);
    vu32 half = sign | (large & too_large) | (small & ~too_large);
    return __builtin_convertvector(half, vh16);
}

#endif
#endif
