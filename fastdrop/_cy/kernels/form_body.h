/* The functions of one form of one dtype. */
#if DTYPE_IS_REAL || !FORM_IS_REAL

static void TF(part)(const drop_input *in, char *y, ptrdiff_t ys, size_t n, const uint64_t *keep,
                     const drop_numbers *numbers)
{
    T(form_part)(FORM_CODE, FORM_INPUTS, in, y, ys, n, keep, numbers);
}

static void TF(form)(const drop_input *in, char *y, ptrdiff_t ys, size_t n, const uint64_t *keep,
                     const drop_numbers *numbers, int streaming)
{
    T(form_run)(FORM_CODE, FORM_INPUTS, TF(part), in, y, ys, n, keep, numbers, streaming);
}

#endif
