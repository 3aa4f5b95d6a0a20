/* A round of AES (FIPS 197, section 5.1) on vectors of 16-byte blocks: by the processor's instruction, or by tables. */
#ifndef DROP_AES_ROUND_H
#define DROP_AES_ROUND_H

#include "kernels/vec.h"

/* Bytes of a vector. */
#define DROP_AES_VEC (DROP_VAES ? DROP_VEC : 16)

typedef uint64_t vaes __attribute__((vector_size(DROP_AES_VEC)));

/* The same two words for each block of a vector, and the number of each block, in its first word. */
#if DROP_VAES && DROP_VEC == 64
#define DROP_AES_BOTH(a, b) {a, b, a, b, a, b, a, b}
#define DROP_AES_NUMBERS {0, 0, 1, 0, 2, 0, 3, 0}
#elif DROP_VAES
#define DROP_AES_BOTH(a, b) {a, b, a, b}
#define DROP_AES_NUMBERS {0, 0, 1, 0}
#else
#define DROP_AES_BOTH(a, b) {a, b}
#define DROP_AES_NUMBERS {0, 0}
#endif

/* A block from memory, for each of a vector's. */
DROP_INLINE vaes repeat_block(const void *from)
{
#if DROP_VAES && DROP_VEC == 64
    return (vaes)_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)from));
#elif DROP_VAES
    return (vaes)_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from));
#else
    return DROP_LOAD(vaes, from);
#endif
}

/* What does it, in words for users. */
#define AES_HOW (DROP_VAES ? "AES instructions on vectors" : DROP_AES ? "AES instructions" : "tables: no AES instructions")

#if DROP_AES
#define aes_prepare NULL /* nothing to do */

DROP_INLINE vaes aes_round(vaes v, vaes key)
{
#if DROP_VAES && DROP_VEC == 64
    return (vaes)_mm512_aesenc_epi128((__m512i)v, (__m512i)key);
#elif DROP_VAES
    return (vaes)_mm256_aesenc_epi128((__m256i)v, (__m256i)key);
#elif DROP_SSE2
    return (vaes)_mm_aesenc_si128((__m128i)v, (__m128i)key);
#else
    return (vaes)vaesmcq_u8(vaeseq_u8((uint8x16_t)v, vdupq_n_u8(0))) ^ key;
#endif
}

/* Without MixColumns. */
DROP_INLINE vaes aes_last_round(vaes v, vaes key)
{
#if DROP_VAES && DROP_VEC == 64
    return (vaes)_mm512_aesenclast_epi128((__m512i)v, (__m512i)key);
#elif DROP_VAES
    return (vaes)_mm256_aesenclast_epi128((__m256i)v, (__m256i)key);
#elif DROP_SSE2
    return (vaes)_mm_aesenclast_si128((__m128i)v, (__m128i)key);
#else
    return (vaes)vaeseq_u8((uint8x16_t)v, vdupq_n_u8(0)) ^ key;
#endif
}

#else

/* What a column's byte number i becomes in a round, for each value that it may have; and the S-box. */
static uint32_t aes_columns[4][256];
static uint8_t aes_sbox[256];

DROP_INLINE uint8_t aes_double(unsigned x) { return (uint8_t)(x << 1 ^ (x >> 7) * 0x1b); }

/* The powers of 3 are all numbers but 0, and power n is the inverse of power 255 - n. */
static void aes_prepare(void)
{
    uint8_t power[256] = {1};
    for (int n = 1; n < 256; n++) power[n] = power[n - 1] ^ aes_double(power[n - 1]);
    for (int n = 0; n < 256; n++) {
        const unsigned x = n < 255 ? power[n] : 0, inverse = n < 255 ? power[255 - n] : 0;
        unsigned s = inverse ^ 0x63;
        for (int i = 4; i < 8; i++) s ^= (inverse * 0x101) >> i; /* rotated */
        aes_sbox[x] = (uint8_t)s;
        const uint32_t once = aes_sbox[x], twice = aes_double(once);
        const uint32_t column = twice | once << 8 | once << 16 | (once ^ twice) << 24;
        for (int i = 0; i < 4; i++) aes_columns[i][x] = i ? column << 8 * i | column >> (32 - 8 * i) : column;
    }
}

/* ShiftRows takes byte i of column c from column c + i. */
DROP_INLINE vaes aes_tables(vaes v, vaes key, int last)
{
    const uint32_t in[4] = {(uint32_t)v[0], (uint32_t)(v[0] >> 32), (uint32_t)v[1], (uint32_t)(v[1] >> 32)};
    uint32_t out[4];
    for (int c = 0; c < 4; c++) {
        out[c] = 0;
        for (int i = 0; i < 4; i++) {
            const uint8_t byte = (uint8_t)(in[(c + i) % 4] >> 8 * i);
            out[c] ^= last ? (uint32_t)aes_sbox[byte] << 8 * i : aes_columns[i][byte];
        }
    }
    return (vaes){out[0] | (uint64_t)out[1] << 32, out[2] | (uint64_t)out[3] << 32} ^ key;
}

DROP_INLINE vaes aes_round(vaes v, vaes key) { return aes_tables(v, key, 0); }
DROP_INLINE vaes aes_last_round(vaes v, vaes key) { return aes_tables(v, key, 1); }

#endif

#endif
