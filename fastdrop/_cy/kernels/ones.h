/* Keep bits as numbers, 1 or 0: what others take for a mask. */
#ifndef DROP_ONES_H
#define DROP_ONES_H

#include "kernels/vec.h"

/* Eight bits: each of eight copies keeps one of them, which a carry moves up and a shift down. */
static inline uint64_t byte_to_bytes(uint64_t bits)
{
    const uint64_t one_each = bits * 0x0101010101010101u & 0x8040201008040201u;
    return (one_each + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

static void ones_u8(const uint64_t *keep, size_t n, void *to)
{
    uint8_t *out = to;
    size_t i = 0;
#if DROP_AVX2
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    for (; i + 32 <= n; i += 32) {
        const int word = (int)(keep[i / 64] >> i % 64);
        const __m256i copies = _mm256_shuffle_epi8(_mm256_set1_epi32(word), byte);
        const __m256i kept = _mm256_cmpeq_epi8(_mm256_and_si256(copies, bit), bit);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_abs_epi8(kept)); /* -1 where kept */
    }
#endif
    for (; i < n; i += 8) {
        const uint64_t bytes = byte_to_bytes(keep[i / 64] >> i % 64 & 0xff);
        if (n - i >= 8) memcpy(out + i, &bytes, 8);
        else memcpy(out + i, &bytes, n - i);
    }
}

static void ones_bf16(const uint64_t *keep, size_t n, void *to)
{
    enum { ONE = 0x3f80 };
    uint16_t *out = to;
    size_t i = 0;
#if DROP_AVX2
    const __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
                                          16384, (short)32768);
    const __m256i one = _mm256_set1_epi16(ONE);
    for (; i + 16 <= n; i += 16) {
        const __m256i copies = _mm256_set1_epi16((short)(keep[i / 64] >> i % 64));
        const __m256i kept = _mm256_cmpeq_epi16(_mm256_and_si256(copies, bit), bit);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_and_si256(kept, one));
    }
#endif
    for (; i < n; i++) out[i] = keep[i / 64] >> i % 64 & 1 ? ONE : 0;
}

#endif
