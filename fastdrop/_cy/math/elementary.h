/* exp and log on vectors: the steps of fastdrop/_formulas/elementary.py, which explains them. */
#ifndef DROP_ELEMENTARY_H
#define DROP_ELEMENTARY_H

#include <math.h>

#include "kernels/rows.h"
#include "kernels/vec.h"
#include "math/coefficients.h"

/* The function or number of a name in the precision that a file is included for. */
#define P(name) DROP_JOIN(name##_, PRECISION)

/* By Horner's rule for odd and even powers apart, so that neither waits for the other; highest power
 * first. `c` is an array. */
#define DROP_POLYNOMIAL(c, x) P(polynomial)(c, sizeof(c) / sizeof *(c), x)

/* Lanes of `a` where a comparison holds, of `b` elsewhere. */
#define DROP_CHOOSE(V, holds, a, b) ((V)(((vu64)(a) & (vu64)(holds)) | ((vu64)(b) & ~(vu64)(holds))))

#if DROP_AVX512
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)_mm512_sqrt_ps((__m512)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)_mm512_sqrt_pd((__m512d)x); }
#elif DROP_AVX2
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)_mm256_sqrt_ps((__m256)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)_mm256_sqrt_pd((__m256d)x); }
#elif DROP_SSE2
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)_mm_sqrt_ps((__m128)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)_mm_sqrt_pd((__m128d)x); }
#elif DROP_NEON
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)vsqrtq_f32((float32x4_t)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)vsqrtq_f64((float64x2_t)x); }
#else
DROP_INLINE vf32 sqrt_f32(vf32 x)
{
    for (int i = 0; i < DROP_LANES32; i++) x[i] = sqrtf(x[i]);
    return x;
}
DROP_INLINE vf64 sqrt_f64(vf64 x)
{
    for (int i = 0; i < DROP_LANES64; i++) x[i] = sqrt(x[i]);
    return x;
}
#endif

/* The larger of two numbers, lane by lane; b where either is NaN. */
#if DROP_AVX512
DROP_INLINE vf32 larger_f32(vf32 a, vf32 b) { return (vf32)_mm512_max_ps((__m512)a, (__m512)b); }
DROP_INLINE vf64 larger_f64(vf64 a, vf64 b) { return (vf64)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif DROP_AVX2
DROP_INLINE vf32 larger_f32(vf32 a, vf32 b) { return (vf32)_mm256_max_ps((__m256)a, (__m256)b); }
DROP_INLINE vf64 larger_f64(vf64 a, vf64 b) { return (vf64)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif DROP_SSE2
DROP_INLINE vf32 larger_f32(vf32 a, vf32 b) { return (vf32)_mm_max_ps((__m128)a, (__m128)b); }
DROP_INLINE vf64 larger_f64(vf64 a, vf64 b) { return (vf64)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
DROP_INLINE vf32 larger_f32(vf32 a, vf32 b) { return DROP_CHOOSE(vf32, a > b, a, b); }
DROP_INLINE vf64 larger_f64(vf64 a, vf64 b) { return DROP_CHOOSE(vf64, a > b, a, b); }
#endif

#define PRECISION_BODY "math/elementary_body.h"
#include "math/precisions.def"

#endif
