/* y = keep ? x * scale : +0 for a word of the mask, and for a few elements, of one dtype (elements.h). */

/* 64 elements, contiguous. */
DROP_INLINE void T(word)(const char *x, char *y, uint64_t bits, T(scale) scale, int stream)
{
    enum { STEP = T(DROP_STEP), PER = STEP / DTYPE_BYTES };
    DROP_IN_MEMORY(bits);
    for (int i = 0; i < 64 / PER; i++) {
        const __auto_type v = T(step)(x + i * STEP, lane_bits(&bits, i, PER), scale);
        if (stream) DROP_STREAM(y + i * STEP, v);
        else memcpy(y + i * STEP, &v, STEP);
    }
}

/* n elements at any distance, side by side. */
DROP_INLINE void T(gather)(const char *x, ptrdiff_t xs, size_t n, char *out)
{
    enum { SIZE = DTYPE_BYTES };
    if (xs == SIZE) copy_bytes(out, x, n * SIZE);
    else if (xs == 2 * SIZE)
        for (size_t i = 0; i < n; i++) memcpy(out + i * SIZE, x + i * 2 * SIZE, SIZE);
    else for (size_t i = 0; i < n; i++) memcpy(out + i * SIZE, x + (ptrdiff_t)i * xs, SIZE);
}

/* Up to DROP_PART elements at any distance, through contiguous buffers. Long
 * ones: a vector load right behind the scalar stores it covers would stall. */
static void T(part)(const char *x, ptrdiff_t xs, char *y, ptrdiff_t ys, size_t n, const uint64_t *keep,
                    T(scale) scale)
{
    enum { SIZE = DTYPE_BYTES };
    char in[DROP_PART * SIZE], out[DROP_PART * SIZE];
    const size_t words = (n + 63) / 64;
    if (n % 64) memset(in + (words - 1) * 64 * SIZE, 0, 64 * SIZE);
    T(gather)(x, xs, n, in);
    for (size_t w = 0; w < words; w++)
        T(word)(in + w * 64 * SIZE, out + w * 64 * SIZE, keep[w], scale, 0);
    if (ys == SIZE) copy_bytes(y, out, n * SIZE);
    else for (size_t i = 0; i < n; i++) memcpy(y + (ptrdiff_t)i * ys, out + i * SIZE, SIZE);
}
