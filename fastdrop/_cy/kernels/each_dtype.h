/* What dtypes.def does with a row. */
#ifdef DTYPE_BODY
#include DTYPE_BODY
#else
DTYPE_CALL(DTYPE_EACH, DTYPE)
#endif
#undef DTYPE
