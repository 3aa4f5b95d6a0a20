/* One dtype's entries in an instruction set's drop_kernels. */
#if DTYPE_IS_REAL
    .noise[DTYPE_CODE] = T(noise),
    .widen[DTYPE_CODE] = T(to_numbers),
    .narrow[DTYPE_CODE] = T(to_elements),
#endif
#define FORM_BODY "kernels/form_entry_body.h"
#include "kernels/forms.def"
