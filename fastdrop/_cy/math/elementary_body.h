/* exp and log in one precision. */

DROP_INLINE V P(polynomial)(const NUMBER *c, size_t n, V x)
{
    V square = x * x, a = (V){0} + c[0], b = (V){0} + c[1];
    for (size_t i = 2; i + 1 < n; i += 2) {
        a = a * square + c[i];
        b = b * square + c[i + 1];
    }
    return n % 2 ? (a * square + c[n - 1]) + b * x : a * x + b;
}

DROP_INLINE V P(exp)(V x, V more)
{
    const NUMBER shift = (NUMBER)1.5 * ((UINT)1 << MANTISSA);
    V shifted = x * P(drop_per_log2) + shift, n = shifted - shift;
    V r = (x - n * P(drop_log2_upper)) + (more - n * P(drop_log2_lower));
    V power = (V)(((U)shifted << MANTISSA) + ((UINT)EXPONENT_BIAS << MANTISSA));
    return (1 + (r + (r * r) * DROP_POLYNOMIAL(P(drop_exp), r))) * power;
}

DROP_INLINE V P(log)(V x)
{
    const U least = (U)((V){0} + P(drop_root_half));
    U above = (U)x - least + ((UINT)(EXPONENT_BIAS + 1) << MANTISSA);
    V m = (V)((above & (((UINT)1 << MANTISSA) - 1)) + least);
    /* A whole number below 2**MANTISSA, as the fraction of 2**MANTISSA. */
    V n = (V)((above >> MANTISSA) | ((UINT)(EXPONENT_BIAS + MANTISSA) << MANTISSA));
    n -= (NUMBER)(((UINT)1 << MANTISSA) + (EXPONENT_BIAS + 1));
    V s = (m - 1) / (m + 1), square = s * s;
    return n * P(drop_log2) + s * (2 + square * DROP_POLYNOMIAL(P(drop_log), square));
}

/* exp(x) for x from -inf up to 0, and NaN of NaN. Results below the least normal number are 0. */
DROP_INLINE V P(exp_below)(V x)
{
    const NUMBER shift = (NUMBER)1.5 * ((UINT)1 << MANTISSA), least = -(EXPONENT_BIAS * P(drop_log2));
    x = P(larger)((V){0} + least, x);
    V shifted = x * P(drop_per_log2) + shift, n = shifted - shift;
    V r = (x - n * P(drop_log2_upper)) - n * P(drop_log2_lower);
    V power = (V)(((U)shifted << MANTISSA) + ((UINT)EXPONENT_BIAS << MANTISSA));
    return (1 + (r + (r * r) * DROP_POLYNOMIAL(P(drop_exp), r))) * power;
}
