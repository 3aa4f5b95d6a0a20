/* Vectors as wide as the instruction set this file is compiled for.
 *
 * GCC's and Clang's vector types take the plain operators; only what operators
 * cannot say, or what a compiler says badly, is spelled out per target here.
 */
#ifndef DROP_VEC_H
#define DROP_VEC_H

#include <stdint.h>
#include <string.h>

/* The instructions that code here may use: 1 or 0. All code asks these, never the compiler's own macros, so
 * that what it uses is what it asked for: `-march=ivybridge`, for instance, has AVX2's conversions of half
 * precision without AVX2. A set contains those below it. */
#if defined(__x86_64__)
#include <immintrin.h>
#define DROP_SSE2 1
#else
#define DROP_SSE2 0
#endif
#if DROP_SSE2 && defined(__AVX2__)
#define DROP_AVX2 1
#else
#define DROP_AVX2 0
#endif
#if DROP_AVX2 && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define DROP_AVX512 1
#else
#define DROP_AVX512 0
#endif

/* Others, which come with any of those. */
#if DROP_SSE2 && defined(__F16C__)
#define DROP_F16C 1
#else
#define DROP_F16C 0
#endif
#if DROP_SSE2 && defined(__BMI2__)
#define DROP_BMI2 1
#else
#define DROP_BMI2 0
#endif
#if DROP_AVX512 && defined(__AVX512IFMA__)
#define DROP_IFMA 1
#else
#define DROP_IFMA 0
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#define DROP_NEON 1
#else
#define DROP_NEON 0
#endif

/* A round of AES, on one block, and on a whole vector of them. */
#if (DROP_SSE2 && defined(__AES__)) || (DROP_NEON && defined(__ARM_FEATURE_AES))
#define DROP_AES 1
#else
#define DROP_AES 0
#endif
#if DROP_AES && DROP_AVX2 && defined(__VAES__)
#define DROP_VAES 1
#else
#define DROP_VAES 0
#endif

#if DROP_AVX512
#define DROP_VEC 64
#elif DROP_AVX2
#define DROP_VEC 32
#else
#define DROP_VEC 16
#endif

#define DROP_INLINE static inline __attribute__((always_inline))

enum { DROP_LANES64 = DROP_VEC / 8, DROP_LANES32 = DROP_VEC / 4 };

typedef uint64_t vu64 __attribute__((vector_size(DROP_VEC)));
typedef uint32_t vu32 __attribute__((vector_size(DROP_VEC)));
typedef uint16_t vu16 __attribute__((vector_size(DROP_VEC)));
typedef uint16_t vh16 __attribute__((vector_size(DROP_VEC / 2))); /* as many lanes as vu32 */
typedef float vf32 __attribute__((vector_size(DROP_VEC)));
typedef double vf64 __attribute__((vector_size(DROP_VEC)));
typedef float number_f32;
typedef double number_f64;

/* memcpy, not a cast: NumPy buffers may be misaligned by a single byte. */
#define DROP_LOAD(type, from) (__extension__({ type v_; memcpy(&v_, (from), sizeof v_); v_; }))
#define DROP_STORE(to, v) (__extension__({ __typeof__(v) v_ = (v); memcpy((to), &v_, sizeof v_); }))

/* Makes the compiler have both values in registers at this place in the code. AVX-512
 * needs no such help. */
#if DROP_SSE2 && !DROP_AVX512
#define DROP_PIN(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
#elif DROP_NEON
#define DROP_PIN(a, b) __asm__ volatile("" : "+w"(a), "+w"(b))
#else
#define DROP_PIN(a, b) ((void)0)
#endif

/* Keeps the compiler from knowing how an integer came about. */
#define DROP_FORGET(n) __asm__("" : "+r"(n))

/* What one more plane of bits says of numbers: whether they are below the threshold, by what the
 * planes behind it say, and whether they differ from it. u is the plane, t the threshold's bit in
 * all lanes. */
DROP_INLINE vu64 below_by_plane(vu64 u, vu64 t, vu64 below)
{
#if DROP_AVX512
    return (vu64)_mm512_ternarylogic_epi64((__m512i)u, (__m512i)t, (__m512i)below, 0x8e);
#else
    const vu64 differs = u ^ t;
    return (t & differs) | (below & ~differs);
#endif
}

DROP_INLINE vu64 differ_by_plane(vu64 u, vu64 t, vu64 differ)
{
#if DROP_AVX512
    return (vu64)_mm512_ternarylogic_epi64((__m512i)u, (__m512i)t, (__m512i)differ, 0xbe);
#else
    return (u ^ t) | differ;
#endif
}

/* Low 32 bits of each lane of a, times low 32 bits of each lane of b: 64-bit
 * products. What the high halves hold does not matter, and Philox uses that. */
DROP_INLINE vu64 mul32(vu64 a, vu64 b)
{
#if DROP_AVX512
    return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif DROP_AVX2
    return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif DROP_SSE2
    return (vu64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif DROP_NEON
    return (vu64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/* Lanes' numbers in the order that store_pairs wants them in. */
#if DROP_VEC == 64
#define DROP_PAIR_ORDER {0, 4, 1, 5, 2, 6, 3, 7}
#elif DROP_VEC == 32
#define DROP_PAIR_ORDER {0, 2, 1, 3}
#else
#define DROP_PAIR_ORDER {0, 1}
#endif

/* out[2 * i] and out[2 * i + 1] become a's and b's lane number i, in DROP_PAIR_ORDER:
 * that order needs shuffles within 128 bits only, the cheapest there are. */
DROP_INLINE void store_pairs(uint64_t *out, vu64 a, vu64 b)
{
#if DROP_AVX512
    DROP_STORE(out, (vu64)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b));
    DROP_STORE(out + DROP_LANES64, (vu64)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b));
#elif DROP_AVX2
    DROP_STORE(out, (vu64)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b));
    DROP_STORE(out + DROP_LANES64, (vu64)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b));
#else
    DROP_STORE(out, ((vu64){a[0], b[0]}));
    DROP_STORE(out + DROP_LANES64, ((vu64){a[1], b[1]}));
#endif
}

#if DROP_SSE2 && !DROP_AVX512
/* The top bit of each lane. */
DROP_INLINE unsigned top_bits(vu32 v)
{
#if DROP_AVX2
    return (unsigned)_mm256_movemask_ps((__m256)v);
#else
    return (unsigned)_mm_movemask_ps((__m128)v);
#endif
}
#endif

/* Bit i: whether the i-th of 32 numbers, two a word, is below a limit. */
DROP_INLINE uint64_t below32(const uint64_t *numbers, uint32_t limit)
{
    uint64_t below = 0;
#if DROP_AVX512
    const __m512i limits = _mm512_set1_epi32((int)limit);
    for (int i = 0; i < 32; i += 16)
        below |= (uint64_t)_mm512_cmplt_epu32_mask(_mm512_loadu_si512(numbers + i / 2), limits) << i;
#elif DROP_SSE2
    for (int i = 0; i < 32; i += DROP_LANES32)
        below |= (uint64_t)top_bits((vu32)(DROP_LOAD(vu32, numbers + i / 2) < limit)) << i;
#else
    for (int i = 0; i < 32; i++)
        below |= (uint64_t)((uint32_t)(numbers[i / 2] >> i % 2 * 32) < limit) << i;
#endif
    return below;
}

/* Low 32 bits of each lane of a below those of b. */
DROP_INLINE vu64 join_low32(vu64 a, vu64 b)
{
#if DROP_AVX512
    return (vu64)_mm512_mask_shuffle_epi32((__m512i)a, 0xaaaa, (__m512i)b, _MM_PERM_CCAA);
#else
    return (a & 0xffffffffu) | (b << 32);
#endif
}

/* Halves of lanes: a's lower ones, and b's upper ones. */
DROP_INLINE vu32 join_halves(vu32 a, vu32 b)
{
#if DROP_AVX512
    return (vu32)_mm512_mask_mov_epi16((__m512i)a, 0xaaaaaaaa, (__m512i)b);
#elif DROP_AVX2
    return (vu32)_mm256_blend_epi16((__m256i)a, (__m256i)b, 0xaa);
#else
    return (a & 0xffffu) | (b & 0xffff0000u);
#endif
}

/* One vector of two vectors of half its width. */
DROP_INLINE vu64 join16(vh16 low, vh16 high)
{
#if DROP_AVX512
    return (vu64)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)low), (__m256i)high, 1);
#elif DROP_AVX2
    return (vu64)_mm256_set_m128i((__m128i)high, (__m128i)low);
#else
    union { vh16 half[2]; vu64 whole; } v = {{low, high}};
    return v.whole;
#endif
}

/* Stores a vector past the caches; `to` must be aligned to it. An output that
 * no cache can hold is written this way without reading its lines first. */
DROP_INLINE void store_streaming(void *to, vu64 v)
{
#if DROP_AVX512
    _mm512_stream_si512((__m512i *)to, (__m512i)v);
#elif DROP_AVX2
    _mm256_stream_si256((__m256i *)to, (__m256i)v);
#elif DROP_SSE2
    _mm_stream_si128((__m128i *)to, (__m128i)v);
#else
    DROP_STORE(to, v);
#endif
}

DROP_INLINE void store_half_streaming(void *to, vh16 v)
{
#if DROP_AVX512
    _mm256_stream_si256((__m256i *)to, (__m256i)v);
#else
    DROP_STORE(to, v);
#endif
}

#define DROP_STREAM(to, v) _Generic((v), vu64: store_streaming, vh16: store_half_streaming)(to, v)

#endif
