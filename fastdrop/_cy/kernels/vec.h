/* Vectors as wide as the instruction set this file is compiled for.
 *
 * GCC's and Clang's vector types take the plain operators; only what operators
 * cannot say, or what a compiler says badly, is spelled out per target here.
 */
#ifndef DROP_VEC_H
#define DROP_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define DROP_VEC 64
#elif defined(__AVX2__)
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

/* memcpy, not a cast: NumPy buffers may be misaligned by a single byte. */
#define DROP_LOAD(type, from) (__extension__({ type v_; memcpy(&v_, (from), sizeof v_); v_; }))
#define DROP_STORE(to, v) (__extension__({ __typeof__(v) v_ = (v); memcpy((to), &v_, sizeof v_); }))

/* Makes the compiler have both values in registers at this place in the code. AVX-512
 * needs no such help. */
#if defined(__x86_64__) && !defined(__AVX512F__)
#define DROP_PIN(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
#elif defined(__aarch64__)
#define DROP_PIN(a, b) __asm__ volatile("" : "+w"(a), "+w"(b))
#else
#define DROP_PIN(a, b) ((void)0)
#endif

/* Keeps the compiler from knowing how an integer came about. */
#define DROP_FORGET(n) __asm__("" : "+r"(n))

/* Makes the compiler have a word of the mask in memory. From there AVX-512 loads some of its bits
 * into a mask register, and others 32 of them into all lanes: from a general register they would go
 * through the vector units, which are busy, and GCC would rather shift mask registers, at three
 * times the price. */
#define DROP_IN_MEMORY(word) __asm__("" : "+m"(word))

/* Bits of a word of the mask for vector i of 64 elements, of which a vector has `per`. */
#if defined(__AVX512F__)
typedef uint64_t drop_lanes;

#define DROP_LOAD_MASK(type, load, from)                                                           \
    (__extension__({ type k_; __asm__(load " %1, %0" : "=k"(k_) : "m"(*(const char(*)[sizeof k_])(from))); k_; }))

DROP_INLINE drop_lanes lane_bits(const uint64_t *word, int i, int per)
{
    const char *from = (const char *)word + i * per / 8;
    if (per == 32) return DROP_LOAD_MASK(__mmask32, "kmovd", from);
    if (per == 16) return DROP_LOAD_MASK(__mmask16, "kmovw", from);
    if (per == 8) return DROP_LOAD_MASK(__mmask8, "kmovb", from);
    uint64_t bits = *word >> (i * per);
    DROP_FORGET(bits); /* or it would be shifted lane by lane */
    return bits;
}
#else
typedef struct {
    const char *half; /* the half of the word that has them, */
    int first;        /* and which of its bits is the first lane's */
    uint64_t bits;    /* or the word from the first one on */
} drop_lanes;

DROP_INLINE drop_lanes lane_bits(const uint64_t *word, int i, int per)
{
    uint64_t bits = *word >> (i * per);
    DROP_FORGET(bits); /* or it would be shifted lane by lane */
    return (drop_lanes){(const char *)word + i * per / 32 * 4, i * per % 32, bits};
}
#endif

/* Lane lists of the native width that name each lane's bit; AVX-512 has mask registers instead. */
#if DROP_VEC == 32
#define DROP_BITS32 {1, 2, 4, 8, 16, 32, 64, 128}
#define DROP_PAIRS32 {1, 1, 2, 2, 4, 4, 8, 8}
#define DROP_QUADS32 {1, 1, 1, 1, 2, 2, 2, 2}
#define DROP_BITS16 {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}
#elif DROP_VEC == 16
#define DROP_BITS32 {1, 2, 4, 8}
#define DROP_PAIRS32 {1, 1, 2, 2}
#define DROP_QUADS32 {1, 1, 1, 1}
#define DROP_BITS16 {1, 2, 4, 8, 16, 32, 64, 128}
#endif

/* What one more plane of bits says of numbers: whether they are below the threshold, by what the
 * planes behind it say, and whether they differ from it. u is the plane, t the threshold's bit in
 * all lanes. */
DROP_INLINE vu64 below_by_plane(vu64 u, vu64 t, vu64 below)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_ternarylogic_epi64((__m512i)u, (__m512i)t, (__m512i)below, 0x8e);
#else
    const vu64 differs = u ^ t;
    return (t & differs) | (below & ~differs);
#endif
}

DROP_INLINE vu64 differ_by_plane(vu64 u, vu64 t, vu64 differ)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_ternarylogic_epi64((__m512i)u, (__m512i)t, (__m512i)differ, 0xbe);
#else
    return (u ^ t) | differ;
#endif
}

/* Low 32 bits of each lane of a, times low 32 bits of each lane of b: 64-bit
 * products. What the high halves hold does not matter, and Philox uses that. */
DROP_INLINE vu64 mul32(vu64 a, vu64 b)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (vu64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
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
#if defined(__AVX512F__)
    DROP_STORE(out, (vu64)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b));
    DROP_STORE(out + DROP_LANES64, (vu64)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b));
#elif defined(__AVX2__)
    DROP_STORE(out, (vu64)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b));
    DROP_STORE(out + DROP_LANES64, (vu64)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b));
#else
    DROP_STORE(out, ((vu64){a[0], b[0]}));
    DROP_STORE(out + DROP_LANES64, ((vu64){a[1], b[1]}));
#endif
}

/* Bit i: whether the i-th of 32 numbers, two a word, is below a limit. */
DROP_INLINE uint64_t below32(const uint64_t *numbers, uint32_t limit)
{
    uint64_t below = 0;
#if defined(__AVX512F__)
    const __m512i limits = _mm512_set1_epi32((int)limit);
    for (int i = 0; i < 32; i += 16)
        below |= (uint64_t)_mm512_cmplt_epu32_mask(_mm512_loadu_si512(numbers + i / 2), limits) << i;
#else
    for (int i = 0; i < 32; i++)
        below |= (uint64_t)((uint32_t)(numbers[i / 2] >> i % 2 * 32) < limit) << i;
#endif
    return below;
}

/* Low 32 bits of each lane of a below those of b. */
DROP_INLINE vu64 join_low32(vu64 a, vu64 b)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_mask_shuffle_epi32((__m512i)a, 0xaaaa, (__m512i)b, _MM_PERM_CCAA);
#else
    return (a & 0xffffffffu) | (b << 32);
#endif
}

/* Halves of lanes: a's lower ones, and b's upper ones. */
DROP_INLINE vu32 join_halves(vu32 a, vu32 b)
{
#if defined(__AVX512BW__)
    return (vu32)_mm512_mask_mov_epi16((__m512i)a, 0xaaaaaaaa, (__m512i)b);
#elif defined(__AVX2__)
    return (vu32)_mm256_blend_epi16((__m256i)a, (__m256i)b, 0xaa);
#else
    return (a & 0xffffu) | (b & 0xffff0000u);
#endif
}

/* One vector of two vectors of half its width. */
DROP_INLINE vu64 join16(vh16 low, vh16 high)
{
#if defined(__AVX512F__)
    return (vu64)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)low), (__m256i)high, 1);
#elif defined(__AVX2__)
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
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)to, (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256((__m256i *)to, (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i *)to, (__m128i)v);
#else
    DROP_STORE(to, v);
#endif
}

DROP_INLINE void store_half_streaming(void *to, vh16 v)
{
#if defined(__AVX512F__)
    _mm256_stream_si256((__m256i *)to, (__m256i)v);
#else
    DROP_STORE(to, v);
#endif
}

#define DROP_STREAM(to, v) _Generic((v), vu64: store_streaming, vh16: store_half_streaming)(to, v)

#endif
