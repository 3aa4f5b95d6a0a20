/* Bits of a word of the mask as lanes of a vector. */
#ifndef DROP_LANES_H
#define DROP_LANES_H

#include "kernels/vec.h"

/* Makes the compiler have a word of the mask in memory. From there AVX-512 loads some of its bits
 * into a mask register, and others 32 of them into all lanes: from a general register they would go
 * through the vector units, which are busy, and GCC would rather shift mask registers, at three
 * times the price. */
#define DROP_IN_MEMORY(word) __asm__("" : "+m"(word))

/* lane_bits: bits of a word of the mask for vector i of 64 elements, of which a vector has `per`.
 * select_n: zeroes the elements whose bit is not set, where n bits of a vector are one element. */
#if DROP_AVX512
typedef uint64_t drop_lanes;

DROP_INLINE drop_lanes lane_bits(const uint64_t *word, int i, int per)
{
    const char *from = (const char *)word + i * per / 8;
    __mmask32 half;
    __mmask16 quarter;
    __mmask8 eighth;
    if (per == 32) {
        __asm__("kmovd %1, %0" : "=k"(half) : "m"(*(const char(*)[sizeof half])from));
        return half;
    }
    if (per == 16) {
        __asm__("kmovw %1, %0" : "=k"(quarter) : "m"(*(const char(*)[sizeof quarter])from));
        return quarter;
    }
    if (per == 8) {
        __asm__("kmovb %1, %0" : "=k"(eighth) : "m"(*(const char(*)[sizeof eighth])from));
        return eighth;
    }
    uint64_t bits = *word >> (i * per);
    DROP_FORGET(bits); /* or it would be shifted lane by lane */
    return bits;
}

DROP_INLINE vu64 select_16(vu64 v, drop_lanes bits)
{
    return (vu64)_mm512_maskz_mov_epi16((__mmask32)bits, (__m512i)v);
}

DROP_INLINE vu64 select_32(vu64 v, drop_lanes bits)
{
    return (vu64)_mm512_maskz_mov_epi32((__mmask16)bits, (__m512i)v);
}

DROP_INLINE vu64 select_64(vu64 v, drop_lanes bits)
{
    return (vu64)_mm512_maskz_mov_epi64((__mmask8)bits, (__m512i)v);
}

/* One bit for two neighbouring lanes. */
DROP_INLINE vu64 select_128(vu64 v, drop_lanes bits)
{
    const __m512i lane = _mm512_setr_epi64(1, 1, 2, 2, 4, 4, 8, 8);
    __mmask8 kept = _mm512_test_epi64_mask(_mm512_set1_epi64((long long)bits), lane);
    return (vu64)_mm512_maskz_mov_epi64(kept, (__m512i)v);
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

/* Each lane's bit, by how many bits of a vector are one element. */
#if DROP_AVX2
static const vu16 drop_lanes_of_16 = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
static const vu32 drop_lanes_of_32 = {1, 2, 4, 8, 16, 32, 64, 128};
static const vu32 drop_lanes_of_64 = {1, 1, 2, 2, 4, 4, 8, 8};
static const vu32 drop_lanes_of_128 = {1, 1, 1, 1, 2, 2, 2, 2};
#else
static const vu16 drop_lanes_of_16 = {1, 2, 4, 8, 16, 32, 64, 128};
static const vu32 drop_lanes_of_32 = {1, 2, 4, 8};
static const vu32 drop_lanes_of_64 = {1, 1, 2, 2};
static const vu32 drop_lanes_of_128 = {1, 1, 1, 1};
#endif

/* Short vectors are many to a word, in loops: a list of lanes for each would cost more than a shift. */
DROP_INLINE vu64 select_16(vu64 v, drop_lanes bits)
{
    vu16 lane = drop_lanes_of_16;
    uint16_t word = (uint16_t)bits.bits;
    if (DROP_VEC > 16) {
        lane <<= bits.first % 16;
        memcpy(&word, bits.half + bits.first / 16 * 2, sizeof word);
    }
    return v & (vu64)((word & lane) == lane);
}

/* These compare 32-bit lanes whatever the elements': SSE2 has no 64-bit comparison. */
DROP_INLINE vu64 select_lanes(vu64 v, drop_lanes bits, vu32 lane, int shifts)
{
    uint32_t word = (uint32_t)bits.bits;
    if (shifts) {
        lane <<= bits.first;
        memcpy(&word, bits.half, sizeof word);
    }
    return v & (vu64)((word & lane) == lane);
}

DROP_INLINE vu64 select_32(vu64 v, drop_lanes bits) { return select_lanes(v, bits, drop_lanes_of_32, 1); }

DROP_INLINE vu64 select_64(vu64 v, drop_lanes bits)
{
    return select_lanes(v, bits, drop_lanes_of_64, DROP_VEC > 16);
}

DROP_INLINE vu64 select_128(vu64 v, drop_lanes bits)
{
    return select_lanes(v, bits, drop_lanes_of_128, DROP_VEC > 16);
}
#endif

#endif
