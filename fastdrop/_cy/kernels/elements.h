/* How elements of each dtype are read, scaled and written: all that the tables do not say of them.
 *
 * read_*   numbers of as many elements as fill a vector of them
 * join_*   a vector of elements, from so many vectors of numbers
 * step_*   y = keep ? x * scale : +0 for a vector of elements, or for half of one. The product is masked by
 *          bits, never branched on and never multiplied by zero: dropped elements are +0.0 even
 *          where x is NaN or infinite.
 * scale_*  what a step takes for a scale; scale_for_* makes it, for n elements
 */
#ifndef DROP_ELEMENTS_H
#define DROP_ELEMENTS_H

#include "kernels/kernels.h"
#include "kernels/lanes.h"
#include "kernels/rows.h"
#include "math/half.h"

/* What has this name for the dtype that a file is included for: its function, type or number. */
#define T(name) DROP_JOIN(name##_, DTYPE_NAME)
#define T_NUMBER DROP_JOIN(number_, DTYPE_NUMBER)
#define T_VECTOR DROP_JOIN(v, DTYPE_NUMBER)

/* Bytes of a step. */
enum {
    DROP_STEP_f16 = DROP_AVX512 ? DROP_VEC / 2 : DROP_VEC,
    DROP_STEP_bf16 = DROP_VEC,
    DROP_STEP_f32 = DROP_VEC,
    DROP_STEP_f64 = DROP_VEC,
    DROP_STEP_c64 = DROP_VEC,
    DROP_STEP_c128 = DROP_VEC,
};

typedef float scale_f16, scale_f32, scale_c64;
typedef double scale_f64, scale_c128;

/* What bfloat16 is multiplied by, and whether halves may be rounded up. */
typedef struct {
    float by;
    int no_halves;
} scale_bf16;

/* --- float32 and float64 ---------------------------------------------------------------------- */

DROP_INLINE vf32 read_f32(const char *x) { return DROP_LOAD(vf32, x); }
DROP_INLINE vf64 read_f64(const char *x) { return DROP_LOAD(vf64, x); }
DROP_INLINE vu64 join_f32(const vf32 *r) { return (vu64)r[0]; }
DROP_INLINE vu64 join_f64(const vf64 *r) { return (vu64)r[0]; }
DROP_INLINE scale_f32 scale_for_f32(double scale, size_t n) { return (void)n, (float)scale; }
DROP_INLINE scale_f64 scale_for_f64(double scale, size_t n) { return (void)n, scale; }

/* AVX-512 multiplies and zeroes at once. */
DROP_INLINE vu64 step_f32(const char *x, drop_lanes bits, scale_f32 scale)
{
#if DROP_AVX512
    return (vu64)_mm512_maskz_mul_ps((__mmask16)bits, (__m512)DROP_LOAD(vf32, x), _mm512_set1_ps(scale));
#else
    return select_32((vu64)(DROP_LOAD(vf32, x) * scale), bits);
#endif
}

DROP_INLINE vu64 step_f64(const char *x, drop_lanes bits, scale_f64 scale)
{
#if DROP_AVX512
    return (vu64)_mm512_maskz_mul_pd((__mmask8)bits, (__m512d)DROP_LOAD(vf64, x), _mm512_set1_pd(scale));
#else
    return select_64((vu64)(DROP_LOAD(vf64, x) * scale), bits);
#endif
}

/* --- complex64 and complex128: pairs that share a bit ------------------------------------------- */

DROP_INLINE vf32 read_c64(const char *x) { return read_f32(x); }
DROP_INLINE vf64 read_c128(const char *x) { return read_f64(x); }
DROP_INLINE vu64 join_c64(const vf32 *r) { return join_f32(r); }
DROP_INLINE vu64 join_c128(const vf64 *r) { return join_f64(r); }
DROP_INLINE scale_c64 scale_for_c64(double scale, size_t n) { return scale_for_f32(scale, n); }
DROP_INLINE scale_c128 scale_for_c128(double scale, size_t n) { return scale_for_f64(scale, n); }

/* Part by part, because a complex product would make NaN of inf * (scale + 0j). */
DROP_INLINE vu64 step_c64(const char *x, drop_lanes bits, scale_c64 scale)
{
    return select_64((vu64)(DROP_LOAD(vf32, x) * scale), bits);
}

DROP_INLINE vu64 step_c128(const char *x, drop_lanes bits, scale_c128 scale)
{
    return select_128((vu64)(DROP_LOAD(vf64, x) * scale), bits);
}

/* --- float16: widened to two vectors ------------------------------------------------------------ */

DROP_INLINE vf32 read_f16(const char *x) { return widen_f16(DROP_LOAD(vh16, x)); }
DROP_INLINE vu64 join_f16(const vf32 *r) { return join16(narrow_f16(r[0]), narrow_f16(r[1])); }
DROP_INLINE scale_f16 scale_for_f16(double scale, size_t n) { return scale_for_f32(scale, n); }

/* AVX-512 zeroes elements for nothing while they are wide, and two stores of half a vector
 * are as good as joining the halves for one. */
#if DROP_AVX512
DROP_INLINE vh16 step_f16(const char *x, drop_lanes bits, scale_f16 scale)
{
    const __m512 wide = (__m512)widen_f16(DROP_LOAD(vh16, x));
    return narrow_f16((vf32)_mm512_maskz_mul_ps((__mmask16)bits, wide, _mm512_set1_ps(scale)));
}
#else
DROP_INLINE vu64 step_f16(const char *x, drop_lanes bits, scale_f16 scale)
{
    vh16 low = DROP_LOAD(vh16, x), high = DROP_LOAD(vh16, x + DROP_VEC / 2);
    low = narrow_f16(widen_f16(low) * scale);
    high = narrow_f16(widen_f16(high) * scale);
    return select_16(join16(low, high), bits);
}
#endif

/* --- bfloat16: the upper half of a float32 ------------------------------------------------------ */

DROP_INLINE vf32 read_bf16(const char *x)
{
    return (vf32)(__builtin_convertvector(DROP_LOAD(vh16, x), vu32) << 16);
}

DROP_INLINE vh16 narrow_bf16(vf32 v) { return __builtin_convertvector(round_bf16(v) >> 16, vh16); }
DROP_INLINE vu64 join_bf16(const vf32 *r) { return join16(narrow_bf16(r[0]), narrow_bf16(r[1])); }

/* Below some thousands of elements a scale is not worth a closer look. */
DROP_INLINE scale_bf16 scale_for_bf16(double scale, size_t n)
{
    return (scale_bf16){(float)scale, n >= DROP_BLOCK / 2 && has_no_halves((float)scale)};
}

/* Odd elements are in place already, and even ones a shift away. Where halves count, both
 * are rounded at once, half by half. A NaN needs no care: it is x's, whose lower half is 0. */
DROP_INLINE vu64 step_bf16(const char *x, drop_lanes bits, scale_bf16 scale)
{
    const vu32 pairs = DROP_LOAD(vu32, x);
    const vu32 even = (vu32)((vf32)(pairs << 16) * scale.by);
    const vu32 odd = (vu32)((vf32)(pairs & 0xffff0000u) * scale.by);
    if (scale.no_halves)
        return select_16((vu64)join_halves((even + 0x8000u) >> 16, odd + 0x8000u), bits);
    const vu16 upper = (vu16)join_halves(even >> 16, odd), lower = (vu16)join_halves(even, odd << 16);
    return select_16((vu64)round_upper(upper, lower), bits);
}

/* --- Runs of elements --------------------------------------------------------------------------- */

enum { DROP_PART = 512 }; /* elements that go through buffers at once */

/* Elements before the first whole vector at an aligned address; 0 if there is none. */
DROP_INLINE unsigned elements_before_vector(const char *y, unsigned size)
{
    const unsigned bytes = (unsigned)(-(uintptr_t)y % DROP_VEC);
    return bytes % size ? 0 : bytes / size;
}

#endif
