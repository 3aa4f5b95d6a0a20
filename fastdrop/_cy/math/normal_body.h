/* The second part of a variate in one precision. */
DROP_INLINE V P(normal_of_level)(V signed_level)
{
    const U top = (U){0} + ~((UINT)-1 >> 1);
    V level = (V)((U)signed_level & ~top), r = P(sqrt)(level + P(drop_log2));
    V z = DROP_POLYNOMIAL(P(drop_quantile_above), r);
    z = level * (z / DROP_POLYNOMIAL(P(drop_quantile_below), r));
    return (V)((U)z | ((U)signed_level & top));
}
