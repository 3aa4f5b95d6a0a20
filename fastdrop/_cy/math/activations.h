/* Activations and their slopes: the steps of fastdrop/activations.py, which explains them. */
#ifndef DROP_ACTIVATIONS_H
#define DROP_ACTIVATIONS_H

#include "math/elementary.h"

#define DROP_LAST_GELU_f32 13.25f
#define DROP_LAST_GELU_f64 37.65625
#define DROP_LAST_EXP_f32 88.0f
#define DROP_LAST_EXP_f64 709.0
#define DROP_LAST_TANH 16

#define DROP_DEFINE_ACTIVATIONS(p, V, U, NUMBER, UINT, MANTISSA)                                   \
    /* |x|, at most `last`, and `last` for NaN. */                                                 \
    DROP_INLINE V clipped_##p(V x, NUMBER last)                                                    \
    {                                                                                              \
        V a = (V)((U)x & ((UINT)-1 >> 1));                                                         \
        return DROP_CHOOSE(V, a < last, a, (V){0} + last);                                         \
    }                                                                                              \
    /* Phi(x) and exp(-x**2 / 2). */                                                               \
    DROP_INLINE V normal_##p(V x, V *density)                                                      \
    {                                                                                              \
        const NUMBER half = (NUMBER)-0.5;                                                          \
        V a = clipped_##p(x, DROP_LAST_GELU_##p);                                                  \
        V high = (V)((U)a & ~(((UINT)1 << (MANTISSA + 2) / 2) - 1));                               \
        V e = exp_##p(half * (high * high), half * ((a - high) * (a + high)));                     \
        V tail = e * DROP_POLYNOMIAL(p, drop_mills_above_##p, a);                                  \
        tail = tail / DROP_POLYNOMIAL(p, drop_mills_below_##p, a);                                 \
        *density = e;                                                                              \
        return DROP_CHOOSE(V, x > 0, 1 - tail, tail);                                              \
    }                                                                                              \
    DROP_INLINE V gelu_##p(V x)                                                                    \
    {                                                                                              \
        V density;                                                                                 \
        return x * normal_##p(x, &density);                                                        \
    }                                                                                              \
    DROP_INLINE V gelu_slope_##p(V x)                                                              \
    {                                                                                              \
        V density, below = normal_##p(x, &density);                                                \
        return below + x * (density * drop_peak_##p);                                              \
    }                                                                                              \
    /* n / d is sigmoid(x), and m / d is sigmoid(-x). */                                           \
    DROP_INLINE void sigmoid_parts_##p(V x, V *n, V *m, V *d)                                      \
    {                                                                                              \
        V one = (V){0} + 1, small = exp_##p(-clipped_##p(x, DROP_LAST_EXP_##p), (V){0});           \
        *n = DROP_CHOOSE(V, x > 0, one, small);                                                    \
        *m = DROP_CHOOSE(V, x > 0, small, one);                                                    \
        *d = one + small;                                                                          \
    }                                                                                              \
    DROP_INLINE V silu_##p(V x)                                                                    \
    {                                                                                              \
        V n, m, d;                                                                                 \
        sigmoid_parts_##p(x, &n, &m, &d);                                                          \
        return (x * n) / d;                                                                        \
    }                                                                                              \
    DROP_INLINE V silu_slope_##p(V x)                                                              \
    {                                                                                              \
        V n, m, d;                                                                                 \
        sigmoid_parts_##p(x, &n, &m, &d);                                                          \
        return (n / d) * (1 + x * (m / d));                                                        \
    }                                                                                              \
    DROP_INLINE V gelu_tanh_##p(V x)                                                               \
    {                                                                                              \
        V n, m, d;                                                                                 \
        sigmoid_parts_##p(x * (drop_tanh_1_##p + drop_tanh_3_##p * (x * x)), &n, &m, &d);          \
        return (x * n) / d;                                                                        \
    }                                                                                              \
    DROP_INLINE V gelu_tanh_slope_##p(V x)                                                         \
    {                                                                                              \
        V n, m, d, a = clipped_##p(x, DROP_LAST_TANH);                                             \
        sigmoid_parts_##p(x * (drop_tanh_1_##p + drop_tanh_3_##p * (x * x)), &n, &m, &d);          \
        V below = n / d, above = m / d;                                                            \
        V rise = drop_tanh_1_##p + drop_tanh_3_slope_##p * (a * a);                                \
        return below + (x * (below * above)) * rise;                                               \
    }

DROP_DEFINE_ACTIVATIONS(f32, vf32, vu32, float, uint32_t, 23)
DROP_DEFINE_ACTIVATIONS(f64, vf64, vu64, double, uint64_t, 52)

#endif
