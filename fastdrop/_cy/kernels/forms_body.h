/* What the forms of one dtype share. */

/* 64 elements, contiguous. */
DROP_INLINE void T(form_word)(drop_form form, int inputs, const char *const *in, char *y, uint64_t bits,
                              const drop_numbers *numbers, int streaming)
{
    enum { SIZE = DTYPE_BYTES, VECTORS = DTYPE_WIDE / 8 / SIZE, STEP = DROP_VEC / VECTORS, PER = STEP / SIZE };
    DROP_IN_MEMORY(bits);
    for (int i = 0; i < 64 * SIZE; i += DROP_VEC) {
        T_VECTOR r[VECTORS];
        for (int k = 0; k < VECTORS; k++) {
            const int at = i + k * STEP;
            const vu64 kept = DROP_JOIN(select_, DTYPE_WIDE)(~(vu64){0}, lane_bits(&bits, at / STEP, PER));
            T_VECTOR x = T(read)(in[0] + at), u = x, v = x;
            if (inputs > 1) u = T(read)(in[1] + at);
            if (inputs > 2) v = T(read)(in[2] + at);
            r[k] = DROP_JOIN(form_value_, DTYPE_NUMBER)(form, x, u, v, kept, numbers);
        }
        if (streaming) store_streaming(y + i, T(join)(r));
        else DROP_STORE(y + i, T(join)(r));
    }
}

/* Up to DROP_PART elements at any distance, through contiguous buffers. */
DROP_INLINE void T(form_part)(drop_form form, int inputs, const drop_input *in, char *y, ptrdiff_t ys,
                              size_t n, const uint64_t *keep, const drop_numbers *numbers)
{
    enum { SIZE = DTYPE_BYTES };
    char buffer[DROP_INPUTS][DROP_PART * SIZE], out[DROP_PART * SIZE];
    const size_t words = (n + 63) / 64;
    for (int k = 0; k < inputs; k++) {
        if (n % 64) memset(buffer[k] + (words - 1) * 64 * SIZE, 0, 64 * SIZE);
        if (in[k].stride == SIZE) copy_bytes(buffer[k], in[k].at, n * SIZE);
        else
            for (size_t i = 0; i < n; i++)
                memcpy(buffer[k] + i * SIZE, in[k].at + (ptrdiff_t)i * in[k].stride, SIZE);
    }
    for (size_t w = 0; w < words; w++) {
        const size_t at = w * 64 * SIZE;
        const char *p[] = {buffer[0] + at, buffer[1] + at, buffer[2] + at};
        T(form_word)(form, inputs, p, out + at, keep[w], numbers, 0);
    }
    if (ys == SIZE) copy_bytes(y, out, n * SIZE);
    else for (size_t i = 0; i < n; i++) memcpy(y + (ptrdiff_t)i * ys, out + i * SIZE, SIZE);
}

/* Contiguous elements go as in apply_body.h; others through buffers. */
DROP_INLINE void T(form_run)(drop_form form, int inputs, drop_part_run part, const drop_input *from, char *y,
                             ptrdiff_t ys, size_t n, const uint64_t *keep, const drop_numbers *numbers,
                             int streaming)
{
    enum { SIZE = DTYPE_BYTES };
    drop_input in[DROP_INPUTS];
    const char *p[DROP_INPUTS];
    int even = ys == SIZE;
    uint64_t bits;
    for (int k = 0; k < inputs; k++) {
        in[k] = from[k];
        even &= in[k].stride == SIZE;
    }
    for (size_t take; !even && n; n -= take, y += (ptrdiff_t)take * ys, keep += DROP_PART / 64) {
        take = n < DROP_PART ? n : DROP_PART;
        part(in, y, ys, take, keep, numbers);
        for (int k = 0; k < inputs; k++) in[k].at += (ptrdiff_t)take * in[k].stride;
    }
    const unsigned head = n < 256 ? 0 : elements_before_vector(y, SIZE);
    if (head) part(in, y, SIZE, head, keep, numbers);
    y += head * SIZE, n -= head;
    for (int k = 0; k < inputs; k++) in[k].at += head * SIZE;
    streaming = streaming && (uintptr_t)y % DROP_VEC == 0;
    for (; n >= 64; n -= 64, keep++, y += 64 * SIZE) {
        for (int k = 0; k < inputs; k++) p[k] = in[k].at, in[k].at += 64 * SIZE;
        bits = *keep >> head;
        if (head) bits |= keep[1] << (64 - head);
        if (streaming) T(form_word)(form, inputs, p, y, bits, numbers, 1);
        else T(form_word)(form, inputs, p, y, bits, numbers, 0);
    }
    if (n == 0) return;
    bits = *keep >> head;
    if (head + n > 64) bits |= keep[1] << (64 - head);
    part(in, y, SIZE, n, &bits, numbers);
}
