/* What dropout's relatives write (forms.def), for every form and dtype.
 *
 * A switch on a constant form costs nothing after inlining. Operands are read as the elements of x are.
 */
#ifndef DROP_FORMS_H
#define DROP_FORMS_H

#include "kernels/copy.h"
#include "kernels/elements.h"
#include "math/activations.h"

#define PRECISION_BODY "kernels/form_value_body.h"
#include "math/precisions.def"

typedef void (*drop_part_run)(const drop_input *in, char *y, ptrdiff_t y_stride, size_t n,
                              const uint64_t *keep, const drop_numbers *numbers);

#define DTYPE_BODY "kernels/forms_body.h"
#include "kernels/dtypes.def"

#endif
