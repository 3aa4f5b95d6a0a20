/* exp and log on vectors: the steps of fastdrop/elementary.py, which explains them. */
#ifndef DROP_ELEMENTARY_H
#define DROP_ELEMENTARY_H

#include <math.h>

#include "math/coefficients.h"
#include "kernels/vec.h"

/* By Horner's rule for odd and even powers apart, so that neither waits for the other; highest power
 * first. `c` is an array. */
#define DROP_POLYNOMIAL(p, c, x) polynomial_##p(c, sizeof(c) / sizeof *(c), x)

/* Lanes of `a` where a comparison holds, of `b` elsewhere. */
#define DROP_CHOOSE(V, holds, a, b) ((V)(((vu64)(a) & (vu64)(holds)) | ((vu64)(b) & ~(vu64)(holds))))

#if defined(__AVX512F__)
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)_mm512_sqrt_ps((__m512)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)_mm512_sqrt_pd((__m512d)x); }
#elif defined(__AVX2__)
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)_mm256_sqrt_ps((__m256)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)_mm256_sqrt_pd((__m256d)x); }
#elif defined(__SSE2__)
DROP_INLINE vf32 sqrt_f32(vf32 x) { return (vf32)_mm_sqrt_ps((__m128)x); }
DROP_INLINE vf64 sqrt_f64(vf64 x) { return (vf64)_mm_sqrt_pd((__m128d)x); }
#elif defined(__aarch64__)
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

/* p names the precision, V and U are its vectors of numbers and of their bits. */
#define DROP_DEFINE_ELEMENTARY(p, V, U, NUMBER, UINT, MANTISSA, BIAS)                              \
    DROP_INLINE V polynomial_##p(const NUMBER *c, size_t n, V x)                                   \
    {                                                                                              \
        V square = x * x, a = (V){0} + c[0], b = (V){0} + c[1];                                    \
        for (size_t i = 2; i + 1 < n; i += 2) {                                                    \
            a = a * square + c[i];                                                                 \
            b = b * square + c[i + 1];                                                             \
        }                                                                                          \
        return n % 2 ? (a * square + c[n - 1]) + b * x : a * x + b;                                \
    }                                                                                              \
    DROP_INLINE V exp_##p(V x, V more)                                                             \
    {                                                                                              \
        const NUMBER shift = (NUMBER)1.5 * ((UINT)1 << MANTISSA);                                  \
        V shifted = x * drop_per_log2_##p + shift, n = shifted - shift;                            \
        V r = (x - n * drop_log2_upper_##p) + (more - n * drop_log2_lower_##p);                    \
        V power = (V)(((U)shifted << MANTISSA) + ((UINT)BIAS << MANTISSA));                        \
        return (1 + (r + (r * r) * DROP_POLYNOMIAL(p, drop_exp_##p, r))) * power;                  \
    }                                                                                              \
    DROP_INLINE V log_##p(V x)                                                                     \
    {                                                                                              \
        const U least = (U)((V){0} + drop_root_half_##p);                                          \
        U above = (U)x - least + ((UINT)(BIAS + 1) << MANTISSA);                                   \
        V m = (V)((above & (((UINT)1 << MANTISSA) - 1)) + least);                                  \
        /* A whole number below 2**MANTISSA, as the fraction of 2**MANTISSA. */                    \
        V n = (V)((above >> MANTISSA) | ((UINT)(BIAS + MANTISSA) << MANTISSA));                    \
        n -= (NUMBER)(((UINT)1 << MANTISSA) + (BIAS + 1));                                         \
        V s = (m - 1) / (m + 1), square = s * s;                                                   \
        return n * drop_log2_##p + s * (2 + square * DROP_POLYNOMIAL(p, drop_log_##p, square));    \
    }

DROP_DEFINE_ELEMENTARY(f32, vf32, vu32, float, uint32_t, 23, 127)
DROP_DEFINE_ELEMENTARY(f64, vf64, vu64, double, uint64_t, 52, 1023)

#endif
