/* Each form's functions for one dtype. */
#define FORM_BODY "kernels/form_body.h"
#include "kernels/forms.def"
