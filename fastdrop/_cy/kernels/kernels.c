/* Compiled once per instruction set, with DROP_ISA as its name (setup.py). */
#include "kernels/forms.h"
#include "kernels/mask_bits.h"
#include "math/normal.h"
#include "kernels/ones.h"
#include "rng/pcg64.h"
#include "rng/philox4x32.h"
#include "rng/philox4x64.h"
#include "kernels/pipeline.h"

#define DROP_JOIN_(a, b) a##b
#define DROP_JOIN(a, b) DROP_JOIN_(a, b)
#define DROP_TEXT_(a) #a
#define DROP_TEXT(a) DROP_TEXT_(a)

const drop_kernels DROP_JOIN(drop_kernels_, DROP_ISA) = {
    .name = DROP_TEXT(DROP_ISA),
    .prepare = pcg64_prepare,
    .philox4x32 = philox4x32_fill,
    .philox4x64 = philox4x64_fill,
    .pcg64 = pcg64_fill,
    .block_bits = block_bits,
    .ones = {[DROP_ONES_U8] = ones_u8, [DROP_ONES_BF16] = ones_bf16},
    .apply = {[DROP_F16] = apply_f16, [DROP_BF16] = apply_bf16, [DROP_F32] = apply_f32,
              [DROP_F64] = apply_f64, [DROP_C64] = apply_c64, [DROP_C128] = apply_c128},
    .pipe = {[DROP_F16] = pipe_f16, [DROP_BF16] = pipe_bf16, [DROP_F32] = pipe_f32,
             [DROP_F64] = pipe_f64, [DROP_C64] = pipe_c64, [DROP_C128] = pipe_c128},
    .form = {[DROP_AFFINE] = {DROP_FORM_OF_ALL(affine)}, [DROP_ADD] = {DROP_FORM_OF_ALL(add)},
             [DROP_BIAS] = {DROP_FORM_OF_ALL(bias)}, [DROP_BIAS_ADD] = {DROP_FORM_OF_ALL(bias_add)},
             [DROP_RELU] = {DROP_FORM_OF_REAL(relu)}, [DROP_RELU_GRAD] = {DROP_FORM_OF_REAL(relu_grad)},
             [DROP_GELU] = {DROP_FORM_OF_REAL(gelu)}, [DROP_GELU_GRAD] = {DROP_FORM_OF_REAL(gelu_grad)},
             [DROP_GELU_TANH] = {DROP_FORM_OF_REAL(gelu_tanh)},
             [DROP_GELU_TANH_GRAD] = {DROP_FORM_OF_REAL(gelu_tanh_grad)},
             [DROP_SILU] = {DROP_FORM_OF_REAL(silu)}, [DROP_SILU_GRAD] = {DROP_FORM_OF_REAL(silu_grad)}},
    .noise = {[DROP_F16] = noise_f16, [DROP_BF16] = noise_bf16, [DROP_F32] = noise_f32,
              [DROP_F64] = noise_f64},
};
