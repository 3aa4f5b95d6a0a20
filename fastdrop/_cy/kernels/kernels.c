/* What is done to elements, compiled once per instruction set, with DROP_ISA as its name (setup.py). */
#include "kernels/forms.h"
#include "kernels/noise.h"
#include "kernels/ones.h"
#include "kernels/softmax.h"

/* A function of one form and dtype: gelu_part_f32, for instance. */
#define TF(name) DROP_JOIN(FORM_NAME, T(_##name))

#define DTYPE_BODY "kernels/form_functions_body.h"
#include "kernels/dtypes.def"

#define DTYPE_BODY "kernels/convert_body.h"
#include "kernels/dtypes.def"

extern const drop_apply_run DROP_FOR_ISA(drop_apply_runs)[];
extern const drop_element_runs DROP_FOR_ISA(drop_element_runs);

const drop_element_runs DROP_FOR_ISA(drop_element_runs) = {
    .ones = {[DROP_ONES_U8] = ones_u8, [DROP_ONES_BF16] = ones_bf16},
    .apply = DROP_FOR_ISA(drop_apply_runs),
    .softmax = {[DROP_SINGLE] = &softmax_runs_f32, [DROP_DOUBLE] = &softmax_runs_f64},
#define DTYPE_BODY "kernels/entries_body.h"
#include "kernels/dtypes.def"
};
