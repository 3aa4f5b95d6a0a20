/* Noise: normal variates of random words, multiplied or added, for every real dtype.
 *
 * The steps of fastdrop/normal.py, which explains them. Element i takes word i, so a vector of
 * n lanes reads n words, whatever the dtype.
 */
#ifndef DROP_NORMAL_H
#define DROP_NORMAL_H

#include "math/elementary.h"
#include "kernels/forms.h"

typedef int32_t vi32 __attribute__((vector_size(DROP_VEC)));

/* Takes the halves of as many words as there are 32-bit lanes apart. */
DROP_INLINE void split_words(const uint64_t *words, vu32 *lower, vu32 *upper)
{
#if defined(__AVX512F__)
    const __m512i a = DROP_LOAD(__m512i, words), b = DROP_LOAD(__m512i, words + DROP_LANES64);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *lower = (vu32)_mm512_permutex2var_epi32(a, even, b);
    *upper = (vu32)_mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
#elif defined(__AVX2__)
    const __m256 a = DROP_LOAD(__m256, words), b = DROP_LOAD(__m256, words + DROP_LANES64);
    const __m256d even = (__m256d)_mm256_shuffle_ps(a, b, 0x88), odd = (__m256d)_mm256_shuffle_ps(a, b, 0xdd);
    *lower = (vu32)_mm256_permute4x64_pd(even, 0xd8);
    *upper = (vu32)_mm256_permute4x64_pd(odd, 0xd8);
#elif defined(__SSE2__)
    const __m128 a = DROP_LOAD(__m128, words), b = DROP_LOAD(__m128, words + DROP_LANES64);
    *lower = (vu32)_mm_shuffle_ps(a, b, 0x88);
    *upper = (vu32)_mm_shuffle_ps(a, b, 0xdd);
#else
    for (int i = 0; i < DROP_LANES32; i++) {
        (*lower)[i] = (uint32_t)words[i];
        (*upper)[i] = (uint32_t)(words[i] >> 32);
    }
#endif
}

/* The first part of a variate: -log(t) for the probability t of being farther out, with the
 * variate's sign. Many are made before any second part. A processor that waits for a vector's steps
 * looks for work some hundred instructions ahead: that is the next vector now, and was the same one
 * when both parts made one loop, which took a quarter longer. */
DROP_INLINE vf64 level_f64(const uint64_t *words)
{
    const vu64 w = DROP_LOAD(vu64, words), nearest = w ^ -(w >> 63);
    vf64 t = (vf64)(nearest >> 11 | (uint64_t)0x3ff << 52) - (1 - 0x1p-53);
    return (vf64)((vu64)(0 - log_f64(t)) | (~w & (uint64_t)1 << 63));
}

DROP_INLINE vf32 level_f32(const uint64_t *words)
{
    vu32 lower, upper;
    split_words(words, &lower, &upper);
    const vu32 right = -(upper >> 31);
    const vi32 high = (vi32)(upper ^ right), low = (vi32)((lower ^ right) >> 11);
    vf32 t = (__builtin_convertvector(low, vf32) + 0.5f) * 0x1p-52f;
    t = __builtin_convertvector(high, vf32) * 0x1p-31f + t;
    return (vf32)((vu32)(0 - log_f32(t)) | (~upper & (uint32_t)1 << 31));
}

#define DROP_DEFINE_NORMAL(p, V, U, UINT)                                                          \
    DROP_INLINE V normal_of_level_##p(V signed_level)                                              \
    {                                                                                              \
        const U top = (U){0} + ~((UINT)-1 >> 1);                                                   \
        V level = (V)((U)signed_level & ~top), r = sqrt_##p(level + drop_log2_##p);                \
        V z = DROP_POLYNOMIAL(p, drop_quantile_above_##p, r);                                      \
        z = level * (z / DROP_POLYNOMIAL(p, drop_quantile_below_##p, r));                          \
        return (V)((U)z | ((U)signed_level & top));                                                \
    }
DROP_DEFINE_NORMAL(f32, vf32, vu32, uint32_t)
DROP_DEFINE_NORMAL(f64, vf64, vu64, uint64_t)

enum { DROP_NOISE_PART = 256 }; /* elements whose first parts wait for their second */

/* VECTORS vectors of p's numbers make one of the dtype's elements. */
#define DROP_DEFINE_NOISE(name, p, SIZE, V, NUMBER, VECTORS)                                       \
    /* Whole vectors of contiguous elements, up to DROP_NOISE_PART of them. */                     \
    DROP_INLINE void noise_part_##name(const uint64_t *words, const char *x, char *y, size_t n,    \
                                       int factor, NUMBER spread, int streaming)                   \
    {                                                                                              \
        enum { STEP = DROP_VEC / VECTORS, LANES = STEP / SIZE };                                   \
        V level[DROP_NOISE_PART / LANES];                                                          \
        for (size_t i = 0; i < n / LANES; i++) level[i] = level_##p(words + i * LANES);            \
        for (size_t i = 0; i < n / LANES; i += VECTORS) {                                          \
            V r[VECTORS];                                                                          \
            for (int k = 0; k < VECTORS; k++) {                                                    \
                V moved = spread * normal_of_level_##p(level[i + k]);                              \
                r[k] = DROP_READ_##name(x + (i + k) * STEP);                                       \
                r[k] = factor ? r[k] * (1 + moved) : r[k] + moved;                                 \
            }                                                                                      \
            if (streaming) store_streaming(y + i * STEP, DROP_JOIN_##name(r));                     \
            else DROP_STORE(y + i * STEP, DROP_JOIN_##name(r));                                    \
        }                                                                                          \
    }                                                                                              \
    static void noise_##name(const uint64_t *words, const char *x, char *y, size_t n, int factor,  \
                             double double_spread, int streaming)                                  \
    {                                                                                              \
        enum { PER = DROP_VEC / SIZE };                                                            \
        const NUMBER spread = (NUMBER)double_spread;                                               \
        char in[DROP_VEC] = {0}, out[DROP_VEC];                                                    \
        uint64_t last[PER] = {0};                                                                  \
        streaming &= (uintptr_t)y % DROP_VEC == 0;                                                 \
        for (size_t take; n >= PER; n -= take, words += take, x += take * SIZE, y += take * SIZE) { \
            take = n < DROP_NOISE_PART ? n / PER * PER : DROP_NOISE_PART;                          \
            if (streaming) noise_part_##name(words, x, y, take, factor, spread, 1);                \
            else noise_part_##name(words, x, y, take, factor, spread, 0);                          \
        }                                                                                          \
        if (n == 0) return;                                                                        \
        memcpy(last, words, n * sizeof *last);                                                     \
        memcpy(in, x, n * SIZE);                                                                   \
        noise_part_##name(last, in, out, PER, factor, spread, 0);                                  \
        memcpy(y, out, n * SIZE);                                                                  \
    }

DROP_DEFINE_NOISE(f16, f32, 2, vf32, float, 2)
DROP_DEFINE_NOISE(bf16, f32, 2, vf32, float, 2)
DROP_DEFINE_NOISE(f32, f32, 4, vf32, float, 1)
DROP_DEFINE_NOISE(f64, f64, 8, vf64, double, 1)

#endif
