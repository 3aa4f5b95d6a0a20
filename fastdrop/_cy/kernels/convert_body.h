/* Elements of one real dtype as the numbers that they are computed with, and back. */
#if DTYPE_IS_REAL

static void T(to_numbers)(const void *from, void *to, size_t n)
{
    enum { SIZE = DTYPE_BYTES, LANES = DROP_VEC / (int)sizeof(T_NUMBER) };
    const char *x = from;
    T_NUMBER *y = to;
    for (; n >= LANES; n -= LANES, x += LANES * SIZE, y += LANES) DROP_STORE(y, T(read)(x));
    if (n == 0) return;
    char last[DROP_VEC] = {0};
    memcpy(last, x, n * SIZE);
    const T_VECTOR numbers = T(read)(last);
    memcpy(y, &numbers, n * sizeof *y);
}

static void T(to_elements)(const void *from, void *to, size_t n)
{
    enum { SIZE = DTYPE_BYTES, VECTORS = DTYPE_WIDE / 8 / SIZE, PER = DROP_VEC / SIZE, LANES = PER / VECTORS };
    const T_NUMBER *x = from;
    char *y = to;
    for (size_t take; n; n -= take, x += take, y += take * SIZE) {
        T_VECTOR numbers[VECTORS] = {{0}};
        take = n < PER ? n : PER;
        memcpy(numbers, x, take * sizeof *x);
        const vu64 elements = T(join)(numbers);
        memcpy(y, &elements, take * SIZE);
    }
}

#endif
