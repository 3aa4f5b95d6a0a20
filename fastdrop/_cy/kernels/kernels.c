/* Compiled once per instruction set, with DROP_ISA as its name (setup.py). */
#include "kernels/block_bits.h"
#include "kernels/forms.h"
#include "kernels/noise.h"
#include "kernels/ones.h"
#include "kernels/softmax.h"
#include "rng/generators.def" /* their headers */

/* A function of one form and dtype: gelu_part_f32, for instance. */
#define TF(name) DROP_JOIN(FORM_NAME, T(_##name))

#define DTYPE_BODY "kernels/form_functions_body.h"
#include "kernels/dtypes.def"

#define DTYPE_BODY "kernels/convert_body.h"
#include "kernels/dtypes.def"

#define DROP_TEXT_(a) #a
#define DROP_TEXT(a) DROP_TEXT_(a)

extern const drop_apply_run DROP_FOR_ISA(drop_apply_runs)[];
extern const drop_pipe_run DROP_FOR_ISA(drop_pipe_runs)[];

const drop_kernels DROP_FOR_ISA(drop_kernels) = {
    .name = DROP_TEXT(DROP_ISA),
#define GENERATOR_EACH(name, CODE, function, PREPARE) .fill[DROP_##CODE] = function##_fill, .prepare[DROP_##CODE] = PREPARE,
#include "rng/generators.def"
    .block_bits = block_bits,
    .ones = {[DROP_ONES_U8] = ones_u8, [DROP_ONES_BF16] = ones_bf16},
    .apply = DROP_FOR_ISA(drop_apply_runs),
    .pipe = DROP_FOR_ISA(drop_pipe_runs),
    .softmax = {[DROP_SINGLE] = &softmax_runs_f32, [DROP_DOUBLE] = &softmax_runs_f64},
#define DTYPE_BODY "kernels/entries_body.h"
#include "kernels/dtypes.def"
};
