/* Normal variates of random words: the steps of fastdrop/_formulas/normal.py, which explains them. */
#ifndef DROP_NORMAL_H
#define DROP_NORMAL_H

#include "math/elementary.h"

typedef int32_t vi32 __attribute__((vector_size(DROP_VEC)));

/* Takes the halves of as many words as there are 32-bit lanes apart. */
DROP_INLINE void split_words(const uint64_t *words, vu32 *lower, vu32 *upper)
{
#if DROP_AVX512
    const __m512i a = DROP_LOAD(__m512i, words), b = DROP_LOAD(__m512i, words + DROP_LANES64);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *lower = (vu32)_mm512_permutex2var_epi32(a, even, b);
    *upper = (vu32)_mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
#elif DROP_AVX2
    const __m256 a = DROP_LOAD(__m256, words), b = DROP_LOAD(__m256, words + DROP_LANES64);
    const __m256d even = (__m256d)_mm256_shuffle_ps(a, b, 0x88), odd = (__m256d)_mm256_shuffle_ps(a, b, 0xdd);
    *lower = (vu32)_mm256_permute4x64_pd(even, 0xd8);
    *upper = (vu32)_mm256_permute4x64_pd(odd, 0xd8);
#elif DROP_SSE2
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

#define PRECISION_BODY "math/normal_body.h"
#include "math/precisions.def"

#endif
