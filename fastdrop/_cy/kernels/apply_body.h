/* y = keep ? x * scale : +0 for one dtype, in steps (elements.h). */

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

/* Contiguous elements: first those before y's first vector, then words that straddle
 * two words of the mask, then what is left. */
DROP_INLINE void T(run)(const char *x, char *y, size_t n, const uint64_t *keep, T(scale) scale, int stream)
{
    enum { SIZE = DTYPE_BYTES };
    const unsigned head = n < 256 ? 0 : elements_before_vector(y, SIZE);
    uint64_t left;
    if (head) T(part)(x, SIZE, y, SIZE, head, keep, scale);
    stream = stream && (uintptr_t)(y + head * SIZE) % DROP_VEC == 0;
    for (x += head * SIZE, y += head * SIZE, n -= head; n >= 64; n -= 64, keep++) {
        uint64_t bits = *keep >> head;
        if (head) bits |= keep[1] << (64 - head);
        if (stream) T(word)(x, y, bits, scale, 1);
        else T(word)(x, y, bits, scale, 0);
        x += 64 * SIZE, y += 64 * SIZE;
    }
    if (n == 0) return;
    left = *keep >> head;
    if (head + n > 64) left |= keep[1] << (64 - head);
    T(part)(x, SIZE, y, SIZE, n, &left, scale);
}

static void T(apply)(const char *x, ptrdiff_t xs, char *y, ptrdiff_t ys, size_t n, const uint64_t *keep,
                     double double_scale, int streaming)
{
    enum { SIZE = DTYPE_BYTES };
    const T(scale) scale = T(scale_for)(double_scale, n);
    if (xs == SIZE && ys == SIZE) {
        T(run)(x, y, n, keep, scale, streaming);
        return;
    }
    for (size_t take; n > 0; n -= take, keep += DROP_PART / 64) {
        take = n < DROP_PART ? n : DROP_PART;
        if (ys == SIZE) {
            char in[DROP_PART * SIZE];
            if (streaming && take < n) /* no page ends memory's own looking ahead */
                for (ptrdiff_t i = 0; i < DROP_PART * xs; i += 64)
                    __builtin_prefetch(x + DROP_PART * xs + i);
            T(gather)(x, xs, take, in);
            T(run)(in, y, take, keep, scale, 0); /* streamed, it takes half longer */
        } else {
            T(part)(x, xs, y, ys, take, keep, scale);
        }
        x += (ptrdiff_t)take * xs, y += (ptrdiff_t)take * ys;
    }
}
