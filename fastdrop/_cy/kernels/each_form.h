/* What forms.def does with a row. */
#ifdef FORM_BODY
#include FORM_BODY
#else
FORM_CALL(FORM_EACH, FORM)
#endif
#undef FORM
