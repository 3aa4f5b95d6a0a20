/* Activations and their slopes in one precision. */

/* `a` where x is positive or NaN, and 0 elsewhere. */
DROP_INLINE V P(where_positive)(V x, V a) { return (V)((vu64)a & ~(vu64)(x <= 0)); }

/* |x|, at most `last`, and `last` for NaN. */
DROP_INLINE V P(clipped)(V x, NUMBER last)
{
    V a = (V)((U)x & ((UINT)-1 >> 1));
    return DROP_CHOOSE(V, a < last, a, (V){0} + last);
}

/* Phi(x) and exp(-x**2 / 2). */
DROP_INLINE V P(normal)(V x, V *density)
{
    const NUMBER half = (NUMBER)-0.5;
    V a = P(clipped)(x, P(drop_last_gelu));
    V high = (V)((U)a & ~(((UINT)1 << (MANTISSA + 2) / 2) - 1));
    V e = P(exp)(half * (high * high), half * ((a - high) * (a + high)));
    V tail = e * DROP_POLYNOMIAL(P(drop_mills_above), a);
    tail = tail / DROP_POLYNOMIAL(P(drop_mills_below), a);
    *density = e;
    return DROP_CHOOSE(V, x > 0, 1 - tail, tail);
}

DROP_INLINE V P(gelu)(V x)
{
    V density;
    return x * P(normal)(x, &density);
}

DROP_INLINE V P(gelu_slope)(V x)
{
    V density, below = P(normal)(x, &density);
    return below + x * (density * P(drop_peak));
}

/* n / d is sigmoid(x), and m / d is sigmoid(-x). */
DROP_INLINE void P(sigmoid_parts)(V x, V *n, V *m, V *d)
{
    V one = (V){0} + 1, small = P(exp)(-P(clipped)(x, P(drop_last_exp)), (V){0});
    *n = DROP_CHOOSE(V, x > 0, one, small);
    *m = DROP_CHOOSE(V, x > 0, small, one);
    *d = one + small;
}

DROP_INLINE V P(silu)(V x)
{
    V n, m, d;
    P(sigmoid_parts)(x, &n, &m, &d);
    return (x * n) / d;
}

DROP_INLINE V P(silu_slope)(V x)
{
    V n, m, d;
    P(sigmoid_parts)(x, &n, &m, &d);
    return (n / d) * (1 + x * (m / d));
}

DROP_INLINE V P(gelu_tanh)(V x)
{
    V n, m, d;
    P(sigmoid_parts)(x * (P(drop_tanh_1) + P(drop_tanh_3) * (x * x)), &n, &m, &d);
    return (x * n) / d;
}

DROP_INLINE V P(gelu_tanh_slope)(V x)
{
    V n, m, d, a = P(clipped)(x, DROP_LAST_TANH);
    P(sigmoid_parts)(x * (P(drop_tanh_1) + P(drop_tanh_3) * (x * x)), &n, &m, &d);
    V below = n / d, above = m / d;
    V rise = P(drop_tanh_1) + P(drop_tanh_3_slope) * (a * a);
    return below + (x * (below * above)) * rise;
}
