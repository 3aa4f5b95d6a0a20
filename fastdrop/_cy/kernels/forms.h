/* What dropout's relatives write (backends/form.py), for every form and dtype.
 *
 * A form's arithmetic is said once, in form_value; a switch on a constant costs
 * nothing after inlining. Operands are read as the elements of x are.
 */
#ifndef DROP_FORMS_H
#define DROP_FORMS_H

#include "math/activations.h"
#include "kernels/apply.h"

/* All bits of kept lanes, none of dropped ones. */
#define DROP_WHERE(kept, a, b) (((vu64)(a) & (kept)) | ((vu64)(b) & ~(kept)))

#define DROP_DEFINE_VALUE(p, V, NUMBER)                                                            \
    DROP_INLINE V form_value_##V(drop_form form, V x, V u, V v, vu64 kept, const drop_numbers *n)  \
    {                                                                                              \
        const NUMBER scale = (NUMBER)n->scale, shift = (NUMBER)n->shift;                           \
        const V dropped = (V){0} + (NUMBER)n->dropped;                                             \
        switch (form) {                                                                            \
        case DROP_AFFINE: return (V)DROP_WHERE(kept, x * scale + shift, dropped);                  \
        case DROP_ADD: return (V)((vu64)(x * scale) & kept) + u;                                   \
        case DROP_BIAS: return (V)((vu64)((x + u) * scale) & kept);                                \
        case DROP_BIAS_ADD: return (V)((vu64)((x + u) * scale) & kept) + v;                        \
        case DROP_RELU: return (V)((vu64)(x * scale) & kept & ~(vu64)(x <= 0));                    \
        case DROP_RELU_GRAD: return (V)((vu64)(x * scale) & kept & ~(vu64)(u <= 0));               \
        case DROP_GELU: return (V)((vu64)(gelu_##p(x) * scale) & kept);                            \
        case DROP_GELU_GRAD: return (V)((vu64)((x * scale) * gelu_slope_##p(u)) & kept);           \
        case DROP_GELU_TANH: return (V)((vu64)(gelu_tanh_##p(x) * scale) & kept);                  \
        case DROP_GELU_TANH_GRAD: return (V)((vu64)((x * scale) * gelu_tanh_slope_##p(u)) & kept); \
        case DROP_SILU: return (V)((vu64)(silu_##p(x) * scale) & kept);                            \
        case DROP_SILU_GRAD: return (V)((vu64)((x * scale) * silu_slope_##p(u)) & kept);           \
        default: return (V)((vu64)(x * scale) & kept);                                             \
        }                                                                                          \
    }
DROP_DEFINE_VALUE(f32, vf32, float)
DROP_DEFINE_VALUE(f64, vf64, double)

/* Half precision is widened to two vectors, and joined when it is narrowed. */
#define DROP_READ_f16(p) widen_f16(DROP_LOAD(vh16, p))
#define DROP_READ_bf16(p) (vf32)(__builtin_convertvector(DROP_LOAD(vh16, p), vu32) << 16)
#define DROP_READ_f32(p) DROP_LOAD(vf32, p)
#define DROP_READ_f64(p) DROP_LOAD(vf64, p)
#define DROP_READ_c64 DROP_READ_f32
#define DROP_READ_c128 DROP_READ_f64
#define DROP_NARROW_BF16(v) __builtin_convertvector(round_bf16(v) >> 16, vh16)
#define DROP_JOIN_f16(r) join16(narrow_f16(r[0]), narrow_f16(r[1]))
#define DROP_JOIN_bf16(r) join16(DROP_NARROW_BF16(r[0]), DROP_NARROW_BF16(r[1]))
#define DROP_JOIN_f32(r) (vu64)r[0]
#define DROP_JOIN_f64 DROP_JOIN_f32
#define DROP_JOIN_c64 DROP_JOIN_f32
#define DROP_JOIN_c128 DROP_JOIN_f32

typedef void (*drop_part_run)(const drop_input *in, char *y, ptrdiff_t y_stride, size_t n,
                              const uint64_t *keep, const drop_numbers *numbers);

/* SELECT is the one whose lanes share bits as V's do among elements. */
#define DROP_DEFINE_FORMS(name, SIZE, V, VECTORS, SELECT)                                          \
    /* 64 elements, contiguous. */                                                                 \
    DROP_INLINE void form_word_##name(drop_form form, int inputs, const char *const *in, char *y,  \
                                      uint64_t bits, const drop_numbers *numbers, int streaming)   \
    {                                                                                              \
        enum { STEP = DROP_VEC / VECTORS, PER = STEP / SIZE };                                     \
        DROP_IN_MEMORY(bits);                                                                      \
        for (int i = 0; i < 64 * SIZE; i += DROP_VEC) {                                            \
            V r[VECTORS];                                                                          \
            for (int k = 0; k < VECTORS; k++) {                                                    \
                const int at = i + k * STEP;                                                       \
                const drop_lanes b = lane_bits(&bits, at / STEP, PER);                             \
                V x = DROP_READ_##name(in[0] + at), u = x, v = x;                                  \
                if (inputs > 1) u = DROP_READ_##name(in[1] + at);                                  \
                if (inputs > 2) v = DROP_READ_##name(in[2] + at);                                  \
                r[k] = form_value_##V(form, x, u, v, SELECT(~(vu64){0}, b), numbers);              \
            }                                                                                      \
            if (streaming) store_streaming(y + i, DROP_JOIN_##name(r));                            \
            else DROP_STORE(y + i, DROP_JOIN_##name(r));                                           \
        }                                                                                          \
    }                                                                                              \
    /* Up to DROP_PART elements at any distance, through contiguous buffers. */                    \
    DROP_INLINE void form_part_##name(drop_form form, int inputs, const drop_input *in, char *y,   \
                                      ptrdiff_t ys, size_t n, const uint64_t *keep,                \
                                      const drop_numbers *numbers)                                 \
    {                                                                                              \
        char buffer[DROP_INPUTS][DROP_PART * SIZE], out[DROP_PART * SIZE];                         \
        const size_t words = (n + 63) / 64;                                                        \
        for (int k = 0; k < inputs; k++) {                                                         \
            if (n % 64) memset(buffer[k] + (words - 1) * 64 * SIZE, 0, 64 * SIZE);                 \
            if (in[k].stride == SIZE) copy_bytes(buffer[k], in[k].at, n * SIZE);                   \
            else                                                                                   \
                for (size_t i = 0; i < n; i++)                                                     \
                    memcpy(buffer[k] + i * SIZE, in[k].at + (ptrdiff_t)i * in[k].stride, SIZE);    \
        }                                                                                          \
        for (size_t w = 0; w < words; w++) {                                                       \
            const size_t at = w * 64 * SIZE;                                                       \
            const char *p[] = {buffer[0] + at, buffer[1] + at, buffer[2] + at};                    \
            form_word_##name(form, inputs, p, out + at, keep[w], numbers, 0);                      \
        }                                                                                          \
        if (ys == SIZE) copy_bytes(y, out, n * SIZE);                                              \
        else for (size_t i = 0; i < n; i++) memcpy(y + (ptrdiff_t)i * ys, out + i * SIZE, SIZE);   \
    }                                                                                              \
    /* Contiguous elements go as in apply.h; others through buffers. */                            \
    DROP_INLINE void form_run_##name(drop_form form, int inputs, drop_part_run part, const drop_input *from, \
                                     char *y, ptrdiff_t ys, size_t n, const uint64_t *keep,        \
                                     const drop_numbers *numbers, int streaming)                   \
    {                                                                                              \
        drop_input in[DROP_INPUTS];                                                                \
        const char *p[DROP_INPUTS];                                                                \
        int even = ys == SIZE;                                                                     \
        uint64_t bits;                                                                             \
        for (int k = 0; k < inputs; k++) {                                                         \
            in[k] = from[k];                                                                       \
            even &= in[k].stride == SIZE;                                                          \
        }                                                                                          \
        for (size_t take; !even && n; n -= take, y += (ptrdiff_t)take * ys, keep += DROP_PART / 64) { \
            take = n < DROP_PART ? n : DROP_PART;                                                  \
            part(in, y, ys, take, keep, numbers);                                                  \
            for (int k = 0; k < inputs; k++) in[k].at += (ptrdiff_t)take * in[k].stride;           \
        }                                                                                          \
        const unsigned head = n < 256 ? 0 : elements_before_vector(y, SIZE);                       \
        if (head) part(in, y, SIZE, head, keep, numbers);                                          \
        y += head * SIZE, n -= head;                                                               \
        for (int k = 0; k < inputs; k++) in[k].at += head * SIZE;                                  \
        streaming = streaming && (uintptr_t)y % DROP_VEC == 0;                                     \
        for (; n >= 64; n -= 64, keep++, y += 64 * SIZE) {                                         \
            for (int k = 0; k < inputs; k++) p[k] = in[k].at, in[k].at += 64 * SIZE;               \
            bits = *keep >> head;                                                                  \
            if (head) bits |= keep[1] << (64 - head);                                              \
            if (streaming) form_word_##name(form, inputs, p, y, bits, numbers, 1);                 \
            else form_word_##name(form, inputs, p, y, bits, numbers, 0);                           \
        }                                                                                          \
        if (n == 0) return;                                                                        \
        bits = *keep >> head;                                                                      \
        if (head + n > 64) bits |= keep[1] << (64 - head);                                         \
        part(in, y, SIZE, n, &bits, numbers);                                                      \
    }                                                                                              \
    DROP_DEFINE_FORM(name, affine, DROP_AFFINE, 1)                                                 \
    DROP_DEFINE_FORM(name, add, DROP_ADD, 2)                                                       \
    DROP_DEFINE_FORM(name, bias, DROP_BIAS, 2)                                                     \
    DROP_DEFINE_FORM(name, bias_add, DROP_BIAS_ADD, 3)

/* Of real numbers only. */
#define DROP_DEFINE_REAL_FORMS(name)                                                               \
    DROP_DEFINE_FORM(name, relu, DROP_RELU, 1)                                                     \
    DROP_DEFINE_FORM(name, relu_grad, DROP_RELU_GRAD, 2)                                           \
    DROP_DEFINE_FORM(name, gelu, DROP_GELU, 1)                                                     \
    DROP_DEFINE_FORM(name, gelu_grad, DROP_GELU_GRAD, 2)                                           \
    DROP_DEFINE_FORM(name, gelu_tanh, DROP_GELU_TANH, 1)                                           \
    DROP_DEFINE_FORM(name, gelu_tanh_grad, DROP_GELU_TANH_GRAD, 2)                                 \
    DROP_DEFINE_FORM(name, silu, DROP_SILU, 1)                                                     \
    DROP_DEFINE_FORM(name, silu_grad, DROP_SILU_GRAD, 2)

#define DROP_DEFINE_FORM(name, what, FORM, INPUTS)                                                 \
    static void what##_part_##name(const drop_input *in, char *y, ptrdiff_t ys, size_t n,          \
                                   const uint64_t *keep, const drop_numbers *numbers)              \
    {                                                                                              \
        form_part_##name(FORM, INPUTS, in, y, ys, n, keep, numbers);                               \
    }                                                                                              \
    static void what##_form_##name(const drop_input *in, char *y, ptrdiff_t ys, size_t n,          \
                                   const uint64_t *keep, const drop_numbers *numbers, int streaming) \
    {                                                                                              \
        form_run_##name(FORM, INPUTS, what##_part_##name, in, y, ys, n, keep, numbers, streaming); \
    }

DROP_DEFINE_FORMS(f16, 2, vf32, 2, select32)
DROP_DEFINE_FORMS(bf16, 2, vf32, 2, select32)
DROP_DEFINE_FORMS(f32, 4, vf32, 1, select32)
DROP_DEFINE_FORMS(f64, 8, vf64, 1, select64)
DROP_DEFINE_FORMS(c64, 8, vf32, 1, select64)
DROP_DEFINE_FORMS(c128, 16, vf64, 1, select128)

DROP_DEFINE_REAL_FORMS(f16)
DROP_DEFINE_REAL_FORMS(bf16)
DROP_DEFINE_REAL_FORMS(f32)
DROP_DEFINE_REAL_FORMS(f64)

#define DROP_FORM_OF_REAL(what)                                                                    \
    [DROP_F16] = what##_form_f16, [DROP_BF16] = what##_form_bf16,                                  \
    [DROP_F32] = what##_form_f32, [DROP_F64] = what##_form_f64
#define DROP_FORM_OF_ALL(what)                                                                     \
    DROP_FORM_OF_REAL(what), [DROP_C64] = what##_form_c64, [DROP_C128] = what##_form_c128

#endif
