/* Plain dropout, compiled once per instruction set as kernels.c is: a file of its own, because it takes three
 * quarters of the compiler's time, and two files can be compiled at once. */
#include "kernels/apply.h"
#include "rng/philox4x32.h"

#define GENERATOR philox4x32
#include "kernels/pipeline.h"

extern const drop_apply_run DROP_FOR_ISA(drop_apply_runs)[];

const drop_apply_run DROP_FOR_ISA(drop_apply_runs)[] = {
#define DTYPE_EACH(name, ...) apply_##name,
#include "kernels/dtypes.def"
};
