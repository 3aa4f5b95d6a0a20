/* Random words and masks, and dropout woven with ARS4x32: what is compiled once more for each set of instructions
 * for AES. DROP_ISA is the set's name, and DROP_BASE that of the set whose other kernels it has (setup.py). */
#include "kernels/block_bits.h"
#include "rng/generators.def" /* their headers */

#if DROP_AES && (DROP_AVX2 || DROP_NEON)
#define GENERATOR ars4x32
#include "kernels/pipeline.h"
#else
#define DROP_PIPES NULL /* for old processors it is not worth the compiler's time, nor for tables */
#endif

#define DROP_FOR_BASE(name) DROP_JOIN(name##_, DROP_BASE)
#define DROP_TEXT_(a) #a
#define DROP_TEXT(a) DROP_TEXT_(a)

extern const drop_element_runs DROP_FOR_BASE(drop_element_runs);
extern const drop_pipe_run DROP_FOR_BASE(philox4x32_pipes)[];
extern const drop_kernels DROP_FOR_ISA(drop_kernels);

const drop_kernels DROP_FOR_ISA(drop_kernels) = {
    .name = DROP_TEXT(DROP_ISA),
    .words = AES_HOW,
#define GENERATOR_EACH(name, CODE, function, PREPARE) .fill[DROP_##CODE] = function##_fill, .prepare[DROP_##CODE] = PREPARE,
#include "rng/generators.def"
    .block_bits = block_bits,
    .pipe = {[DROP_ARS4X32] = DROP_PIPES, [DROP_PHILOX4X32] = DROP_FOR_BASE(philox4x32_pipes)},
    .elements = &DROP_FOR_BASE(drop_element_runs),
};
