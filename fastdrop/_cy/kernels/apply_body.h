/* y = keep ? x * scale : +0 for one dtype, in steps (elements.h). */

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
