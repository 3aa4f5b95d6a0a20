/* y = keep ? x * scale : +0, for every dtype.
 *
 * A step_* function makes one vector of results, or half of one, from as many elements
 * as fit it and as many keep bits. DROP_DEFINE_APPLY turns a step into a whole run.
 * The product is masked by bits, never branched on and never multiplied by
 * zero: dropped elements are +0.0 even where x is NaN or infinite.
 */
#ifndef DROP_APPLY_H
#define DROP_APPLY_H

#include "kernels/copy.h"
#include "math/half.h"
#include "kernels/kernels.h"
#include "kernels/vec.h"

/* Zeroes the lanes whose bit is not set. */
#if defined(__AVX512F__)
DROP_INLINE vu64 select16(vu64 v, drop_lanes bits)
{
    return (vu64)_mm512_maskz_mov_epi16((__mmask32)bits, (__m512i)v);
}

DROP_INLINE vu64 select32(vu64 v, drop_lanes bits)
{
    return (vu64)_mm512_maskz_mov_epi32((__mmask16)bits, (__m512i)v);
}

DROP_INLINE vu64 select64(vu64 v, drop_lanes bits)
{
    return (vu64)_mm512_maskz_mov_epi64((__mmask8)bits, (__m512i)v);
}

/* One bit for two neighbouring lanes. */
DROP_INLINE vu64 select128(vu64 v, drop_lanes bits)
{
    const __m512i lane = _mm512_setr_epi64(1, 1, 2, 2, 4, 4, 8, 8);
    __mmask8 kept = _mm512_test_epi64_mask(_mm512_set1_epi64((long long)bits), lane);
    return (vu64)_mm512_maskz_mov_epi64(kept, (__m512i)v);
}
#else
/* Short vectors are many to a word, in loops: a list of lanes for each would cost more than a shift. */
DROP_INLINE vu64 select16(vu64 v, drop_lanes bits)
{
    vu16 lane = DROP_BITS16;
    uint16_t word = (uint16_t)bits.bits;
    if (DROP_VEC > 16) {
        lane <<= bits.first % 16;
        memcpy(&word, bits.half + bits.first / 16 * 2, sizeof word);
    }
    return v & (vu64)((word & lane) == lane);
}

/* These compare 32-bit lanes whatever the elements': SSE2 has no 64-bit comparison. */
#define DROP_DEFINE_SELECT(n, LANES)                                                               \
    DROP_INLINE vu64 select##n(vu64 v, drop_lanes bits)                                            \
    {                                                                                              \
        vu32 lane = LANES;                                                                         \
        uint32_t word = (uint32_t)bits.bits;                                                       \
        if (DROP_VEC > 16 || n == 32) {                                                            \
            lane <<= bits.first;                                                                   \
            memcpy(&word, bits.half, sizeof word);                                                 \
        }                                                                                          \
        return v & (vu64)((word & lane) == lane);                                                  \
    }
DROP_DEFINE_SELECT(32, DROP_BITS32)
DROP_DEFINE_SELECT(64, DROP_PAIRS32)
DROP_DEFINE_SELECT(128, DROP_QUADS32)
#endif

/* AVX-512 multiplies and zeroes at once. */
DROP_INLINE vu64 step_f32(const char *x, drop_lanes bits, float scale)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_maskz_mul_ps((__mmask16)bits, (__m512)DROP_LOAD(vf32, x), _mm512_set1_ps(scale));
#else
    return select32((vu64)(DROP_LOAD(vf32, x) * scale), bits);
#endif
}

DROP_INLINE vu64 step_f64(const char *x, drop_lanes bits, double scale)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_maskz_mul_pd((__mmask8)bits, (__m512d)DROP_LOAD(vf64, x), _mm512_set1_pd(scale));
#else
    return select64((vu64)(DROP_LOAD(vf64, x) * scale), bits);
#endif
}

/* Complex numbers are pairs that share a bit; part by part, because a complex
 * product would make NaN of inf * (scale + 0j). */
DROP_INLINE vu64 step_c64(const char *x, drop_lanes bits, float scale)
{
    return select64((vu64)(DROP_LOAD(vf32, x) * scale), bits);
}

DROP_INLINE vu64 step_c128(const char *x, drop_lanes bits, double scale)
{
    return select128((vu64)(DROP_LOAD(vf64, x) * scale), bits);
}

/* As many elements as a vector holds when they are widened. AVX-512 zeroes them for nothing while
 * they are, and two stores of half a vector are as good as joining the halves for one. */
#if defined(__AVX512F__)
enum { DROP_STEP_F16 = DROP_VEC / 2 };

DROP_INLINE vh16 step_f16(const char *x, drop_lanes bits, float scale)
{
    const __m512 wide = (__m512)widen_f16(DROP_LOAD(vh16, x));
    return narrow_f16((vf32)_mm512_maskz_mul_ps((__mmask16)bits, wide, _mm512_set1_ps(scale)));
}
#else
enum { DROP_STEP_F16 = DROP_VEC };

DROP_INLINE vu64 step_f16(const char *x, drop_lanes bits, float scale)
{
    vh16 low = DROP_LOAD(vh16, x), high = DROP_LOAD(vh16, x + DROP_VEC / 2);
    low = narrow_f16(widen_f16(low) * scale);
    high = narrow_f16(widen_f16(high) * scale);
    return select16(join16(low, high), bits);
}
#endif

/* What bfloat16 is multiplied by, and whether halves may be rounded up. */
typedef struct {
    float by;
    int no_halves;
} bf16_scale;

/* A scale as steps take it, for n elements: below some thousands it is not worth a closer look. */
#define DROP_MAKE_float(scale, n) (float)(scale)
#define DROP_MAKE_double(scale, n) (scale)
#define DROP_MAKE_bf16_scale(scale, n)                                                             \
    ((bf16_scale){(float)(scale), (n) >= DROP_BLOCK / 2 && has_no_halves((float)(scale))})

/* A bfloat16 is the upper half of a float32: odd elements are in place already,
 * and even ones a shift away. Where halves count, both are rounded at once, half by half. A NaN needs
 * no care: it is x's, whose lower half is 0. */
DROP_INLINE vu64 step_bf16(const char *x, drop_lanes bits, bf16_scale scale)
{
    const vu32 pairs = DROP_LOAD(vu32, x);
    const vu32 even = (vu32)((vf32)(pairs << 16) * scale.by);
    const vu32 odd = (vu32)((vf32)(pairs & 0xffff0000u) * scale.by);
    if (scale.no_halves)
        return select16((vu64)join_halves((even + 0x8000u) >> 16, odd + 0x8000u), bits);
    const vu16 upper = (vu16)join_halves(even >> 16, odd), lower = (vu16)join_halves(even, odd << 16);
    return select16((vu64)round_upper(upper, lower), bits);
}

enum { DROP_PART = 512 };

/* Elements before the first whole vector at an aligned address; 0 if there is none. */
DROP_INLINE unsigned elements_before_vector(const char *y, unsigned size)
{
    const unsigned bytes = (unsigned)(-(uintptr_t)y % DROP_VEC);
    return bytes % size ? 0 : bytes / size;
}

/* STEP: the bytes of a step. */
#define DROP_DEFINE_APPLY(name, SIZE, SCALE, STEP)                                                 \
    /* 64 elements, contiguous. */                                                                 \
    DROP_INLINE void word_##name(const char *x, char *y, uint64_t bits, SCALE scale, int stream)   \
    {                                                                                              \
        enum { PER = STEP / SIZE };                                                                \
        DROP_IN_MEMORY(bits);                                                                      \
        for (int i = 0; i < 64 / PER; i++) {                                                       \
            const __auto_type v = step_##name(x + i * STEP, lane_bits(&bits, i, PER), scale);      \
            if (stream) DROP_STREAM(y + i * STEP, v);                                              \
            else memcpy(y + i * STEP, &v, STEP);                                                   \
        }                                                                                          \
    }                                                                                              \
    /* n elements at any distance, side by side. */                                                \
    DROP_INLINE void gather_##name(const char *x, ptrdiff_t xs, size_t n, char *out)               \
    {                                                                                              \
        if (xs == SIZE) copy_bytes(out, x, n * SIZE);                                              \
        else if (xs == 2 * SIZE)                                                                   \
            for (size_t i = 0; i < n; i++) memcpy(out + i * SIZE, x + i * 2 * SIZE, SIZE);         \
        else for (size_t i = 0; i < n; i++) memcpy(out + i * SIZE, x + (ptrdiff_t)i * xs, SIZE);   \
    }                                                                                              \
    /* Up to DROP_PART elements at any distance, through contiguous buffers. Long                  \
     * ones: a vector load right behind the scalar stores it covers would stall. */                \
    static void part_##name(const char *x, ptrdiff_t xs, char *y, ptrdiff_t ys, size_t n,          \
                            const uint64_t *keep, SCALE scale)                                     \
    {                                                                                              \
        char in[DROP_PART * SIZE], out[DROP_PART * SIZE];                                          \
        const size_t words = (n + 63) / 64;                                                        \
        if (n % 64) memset(in + (words - 1) * 64 * SIZE, 0, 64 * SIZE);                            \
        gather_##name(x, xs, n, in);                                                               \
        for (size_t w = 0; w < words; w++)                                                         \
            word_##name(in + w * 64 * SIZE, out + w * 64 * SIZE, keep[w], scale, 0);               \
        if (ys == SIZE) copy_bytes(y, out, n * SIZE);                                              \
        else for (size_t i = 0; i < n; i++) memcpy(y + (ptrdiff_t)i * ys, out + i * SIZE, SIZE);   \
    }                                                                                              \
    /* Contiguous elements: first those before y's first vector, then words that straddle          \
     * two words of the mask, then what is left. */                                                \
    DROP_INLINE void run_##name(const char *x, char *y, size_t n, const uint64_t *keep,            \
                                SCALE scale, int stream)                                           \
    {                                                                                              \
        const unsigned head = n < 256 ? 0 : elements_before_vector(y, SIZE);                       \
        uint64_t left;                                                                             \
        if (head) part_##name(x, SIZE, y, SIZE, head, keep, scale);                                \
        stream = stream && (uintptr_t)(y + head * SIZE) % DROP_VEC == 0;                           \
        for (x += head * SIZE, y += head * SIZE, n -= head; n >= 64; n -= 64, keep++) {            \
            uint64_t bits = *keep >> head;                                                         \
            if (head) bits |= keep[1] << (64 - head);                                              \
            if (stream) word_##name(x, y, bits, scale, 1);                                         \
            else word_##name(x, y, bits, scale, 0);                                                \
            x += 64 * SIZE, y += 64 * SIZE;                                                        \
        }                                                                                          \
        if (n == 0) return;                                                                        \
        left = *keep >> head;                                                                      \
        if (head + n > 64) left |= keep[1] << (64 - head);                                         \
        part_##name(x, SIZE, y, SIZE, n, &left, scale);                                            \
    }                                                                                              \
    static void apply_##name(const char *x, ptrdiff_t xs, char *y, ptrdiff_t ys, size_t n,         \
                             const uint64_t *keep, double double_scale, int streaming)             \
    {                                                                                              \
        const SCALE scale = DROP_MAKE_##SCALE(double_scale, n);                                    \
        if (xs == SIZE && ys == SIZE) {                                                            \
            run_##name(x, y, n, keep, scale, streaming);                                           \
            return;                                                                                \
        }                                                                                          \
        for (size_t take; n > 0; n -= take, keep += DROP_PART / 64) {                              \
            take = n < DROP_PART ? n : DROP_PART;                                                  \
            if (ys == SIZE) {                                                                      \
                char in[DROP_PART * SIZE];                                                         \
                if (streaming && take < n) /* no page ends memory's own looking ahead */           \
                    for (ptrdiff_t i = 0; i < DROP_PART * xs; i += 64)                             \
                        __builtin_prefetch(x + DROP_PART * xs + i);                                \
                gather_##name(x, xs, take, in);                                                    \
                run_##name(in, y, take, keep, scale, 0); /* streamed, it takes half longer */      \
            } else {                                                                               \
                part_##name(x, xs, y, ys, take, keep, scale);                                      \
            }                                                                                      \
            x += (ptrdiff_t)take * xs, y += (ptrdiff_t)take * ys;                                  \
        }                                                                                          \
    }

DROP_DEFINE_APPLY(f16, 2, float, DROP_STEP_F16)
DROP_DEFINE_APPLY(bf16, 2, bf16_scale, DROP_VEC)
DROP_DEFINE_APPLY(f32, 4, float, DROP_VEC)
DROP_DEFINE_APPLY(f64, 8, double, DROP_VEC)
DROP_DEFINE_APPLY(c64, 8, float, DROP_VEC)
DROP_DEFINE_APPLY(c128, 16, double, DROP_VEC)

#endif
