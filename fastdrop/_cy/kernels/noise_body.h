/* Noise for one dtype, if it is a real one. */
#if DTYPE_IS_REAL

/* Whole vectors of contiguous elements, up to DROP_NOISE_PART of them. */
DROP_INLINE void T(noise_part)(const uint64_t *words, const char *x, char *y, size_t n, int factor,
                               T_NUMBER spread, int streaming)
{
    enum { SIZE = DTYPE_BYTES, VECTORS = DTYPE_WIDE / 8 / SIZE, STEP = DROP_VEC / VECTORS, LANES = STEP / SIZE };
    T_VECTOR level[DROP_NOISE_PART / LANES];
    for (size_t i = 0; i < n / LANES; i++) level[i] = DROP_JOIN(level_, DTYPE_NUMBER)(words + i * LANES);
    for (size_t i = 0; i < n / LANES; i += VECTORS) {
        T_VECTOR r[VECTORS];
        for (int k = 0; k < VECTORS; k++) {
            T_VECTOR moved = spread * DROP_JOIN(normal_of_level_, DTYPE_NUMBER)(level[i + k]);
            r[k] = T(read)(x + (i + k) * STEP);
            r[k] = factor ? r[k] * (1 + moved) : r[k] + moved;
        }
        if (streaming) store_streaming(y + i * STEP, T(join)(r));
        else DROP_STORE(y + i * STEP, T(join)(r));
    }
}

static void T(noise)(const uint64_t *words, const char *x, char *y, size_t n, int factor, double double_spread,
                     int streaming)
{
    enum { SIZE = DTYPE_BYTES, PER = DROP_VEC / SIZE };
    const T_NUMBER spread = (T_NUMBER)double_spread;
    char in[DROP_VEC] = {0}, out[DROP_VEC];
    uint64_t last[PER] = {0};
    streaming &= (uintptr_t)y % DROP_VEC == 0;
    for (size_t take; n >= PER; n -= take, words += take, x += take * SIZE, y += take * SIZE) {
        take = n < DROP_NOISE_PART ? n / PER * PER : DROP_NOISE_PART;
        if (streaming) T(noise_part)(words, x, y, take, factor, spread, 1);
        else T(noise_part)(words, x, y, take, factor, spread, 0);
    }
    if (n == 0) return;
    memcpy(last, words, n * sizeof *last);
    memcpy(in, x, n * SIZE);
    T(noise_part)(last, in, out, PER, factor, spread, 0);
    memcpy(y, out, n * SIZE);
}

#endif
