/* One form's entry for one dtype. */
#if DTYPE_IS_REAL || !FORM_IS_REAL
    .form[FORM_CODE][DTYPE_CODE] = TF(form),
#endif
