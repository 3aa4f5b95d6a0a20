/* Plain dropout, compiled once per instruction set as kernels.c is: a file of its own, because it takes three
 * quarters of the compiler's time, and two files can be compiled at once. */
#include "kernels/apply.h"
#include "kernels/pipeline.h"

extern const drop_apply_run DROP_FOR_ISA(drop_apply_runs)[];
extern const drop_pipe_run DROP_FOR_ISA(drop_pipe_runs)[];

const drop_apply_run DROP_FOR_ISA(drop_apply_runs)[] = {
#define DTYPE_EACH(name, ...) apply_##name,
#include "kernels/dtypes.def"
};

const drop_pipe_run DROP_FOR_ISA(drop_pipe_runs)[] = {
#define DTYPE_EACH(name, ...) pipe_##name,
#include "kernels/dtypes.def"
};
