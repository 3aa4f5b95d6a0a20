#include "oracle.h"

#include <math.h>
#include <string.h>

#include "math/coefficients.h"

/* --- Mask format 2, in the names of docs/mask-format.md ----------------------------------- */

enum { COLUMNS = 512, NUMBERS = 32, RANGE = 336 };

/* The number whose bits, the first one the most significant, are bit c of each plane's word. */
static uint64_t bits_at(const uint64_t *word, unsigned planes, unsigned c)
{
    uint64_t number = 0;
    for (unsigned j = 0; j < planes; j++) number = 2 * number + (word[8 * j] >> c & 1);
    return number;
}

int oracle_block(const drop_mask *mask, uint64_t block, unsigned n, uint8_t *keep)
{
    const uint64_t T = mask->threshold, one = (uint64_t)1 << 40;
    if (T == 0 || T == one) {
        memset(keep, T == one, n);
        return 0;
    }
    const unsigned k = 40 - (unsigned)__builtin_ctzll(T), d = k < 4 ? k : 4, e = k - d < 8 ? k - d : 8;
    const unsigned f = 8 * e + (k > 12 ? 16 : 0), S = f + 64 * d;
    uint64_t w[RANGE];
    int failed = mask->fill(mask->key, mask->draw + block * S, S, w);
    if (failed) return failed;
    const uint64_t A = T >> (40 - d), B = (T >> (40 - d - e)) % (1u << e), C = T % (1u << 28);

    uint8_t column[COLUMNS] = {0}; /* whether an element that takes it is kept */
    unsigned number = 0;
    for (unsigned r = 0; k > 4 && r < COLUMNS; r++) {
        const uint64_t V = bits_at(w + r / 64, e, r % 64);
        column[r] = V < B;
        if (V == B && k > 12) {
            column[r] = (uint32_t)(w[64 + number / 2] >> number % 2 * 32) < C * 16;
            number = (number + 1) % NUMBERS;
        }
    }
    unsigned undecided = 0;
    for (unsigned i = 0; i < n; i++) {
        const uint64_t U = bits_at(w + f + 8 * d * (i / 512) + i % 512 / 64, d, i % 64);
        keep[i] = U < A;
        if (U == A && k > 4) keep[i] = column[undecided++ % COLUMNS];
    }
    return 0;
}

/* --- Half precision --------------------------------------------------------------------- */

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float widen_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    /* As the hardware does it, a NaN becomes quiet on the way. */
    if (exponent == 31) return from_bits(sign | 0x7f800000u | fraction << 13 | (fraction ? 0x400000u : 0));
    const float magnitude = exponent ? ldexpf((float)(1024 + fraction), (int)exponent - 25)
                                     : ldexpf((float)fraction, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static uint16_t narrow_f16(float f)
{
    const uint32_t bits = to_bits(f);
    const uint16_t sign = bits >> 16 & 0x8000;
    if (isnan(f)) return sign | 0x7e00 | (bits >> 13 & 0x3ff);
    int exponent = -14;
    if (isfinite(f) && fabsf(f) >= 0x1p-14f) exponent = ilogbf(f);
    if (exponent > 15 || isinf(f)) return sign | 0x7c00;
    /* Units in the last place, rounded to nearest even; 2048 of them carry over. */
    const unsigned units = (unsigned)nearbyintf(ldexpf(fabsf(f), 10 - exponent));
    return sign | (uint16_t)(units + 1024u * (unsigned)(exponent + 14));
}

static float widen_bf16(uint16_t h) { return from_bits((uint32_t)h << 16); }

static uint16_t narrow_bf16(float f)
{
    const uint32_t bits = to_bits(f);
    if (isnan(f)) return (uint16_t)(bits >> 16 | 0x40);
    const uint32_t kept = bits >> 16, rest = bits & 0xffff;
    return (uint16_t)(kept + (rest > 0x8000 || (rest == 0x8000 && (kept & 1))));
}

/* --- Forms ------------------------------------------------------------------------------ */

int oracle_item_size(drop_dtype dtype)
{
    static const int size[DROP_DTYPES] = {[DROP_F16] = 2, [DROP_BF16] = 2, [DROP_F32] = 4,
                                          [DROP_F64] = 8, [DROP_C64] = 8, [DROP_C128] = 16};
    return size[dtype];
}

int oracle_inputs(drop_form form)
{
    switch (form) {
    case DROP_BIAS_ADD: return 3;
    case DROP_ADD: case DROP_BIAS: case DROP_RELU_GRAD: return 2;
    default: return 1;
    }
}

#define DEFINE_VALUE(name, NUMBER)                                                                 \
    static NUMBER name(drop_form form, NUMBER x, NUMBER u, NUMBER v, int kept, const drop_numbers *n) \
    {                                                                                              \
        const NUMBER scale = (NUMBER)n->scale, shift = (NUMBER)n->shift;                           \
        switch (form) {                                                                            \
        case DROP_AFFINE: return kept ? x * scale + shift : (NUMBER)n->dropped + 0; /* never -0 */ \
        case DROP_ADD: return (kept ? x * scale : 0) + u;                                          \
        case DROP_BIAS: return kept ? (x + u) * scale : 0;                                         \
        case DROP_BIAS_ADD: return (kept ? (x + u) * scale : 0) + v;                               \
        case DROP_RELU: return kept && !(x <= 0) ? x * scale : 0;                                  \
        case DROP_RELU_GRAD: return kept && !(u <= 0) ? x * scale : 0;                             \
        default: return kept ? x * scale : 0;                                                      \
        }                                                                                          \
    }
DEFINE_VALUE(value_float, float)
DEFINE_VALUE(value_double, double)

void oracle_element(drop_form form, drop_dtype dtype, const char *const *in, int kept,
                    const drop_numbers *numbers, char *y)
{
    const int inputs = oracle_inputs(form), size = oracle_item_size(dtype);
    const int is_double = dtype == DROP_F64 || dtype == DROP_C128;
    const int parts = dtype == DROP_C64 || dtype == DROP_C128 ? 2 : 1;
    for (int part = 0; part < parts; part++) {
        const int at = part * size / parts;
        double d[DROP_INPUTS] = {0};
        float f[DROP_INPUTS] = {0};
        uint16_t h[DROP_INPUTS];
        for (int k = 0; k < inputs; k++) {
            if (is_double) memcpy(&d[k], in[k] + at, sizeof d[k]);
            else if (size > 2) memcpy(&f[k], in[k] + at, sizeof f[k]);
            else {
                memcpy(&h[k], in[k], sizeof h[k]);
                f[k] = dtype == DROP_F16 ? widen_f16(h[k]) : widen_bf16(h[k]);
            }
        }
        if (is_double) {
            d[0] = value_double(form, d[0], d[1], d[2], kept, numbers);
            memcpy(y + at, d, sizeof *d);
            continue;
        }
        f[0] = value_float(form, f[0], f[1], f[2], kept, numbers);
        if (size > 2) memcpy(y + at, f, sizeof *f);
        else {
            h[0] = dtype == DROP_F16 ? narrow_f16(f[0]) : narrow_bf16(f[0]);
            memcpy(y, h, sizeof *h);
        }
    }
}

/* --- Noise, by the steps of fastdrop/normal.py and elementary.py ------------------------- */

/* p is a precision's name in coefficients.h, f the end of its functions' names in math.h. */
#define POLYNOMIAL(p, c, x) polynomial_##p(c, sizeof(c) / sizeof *(c), x)
#define DEFINE_NOISE(p, f, NUMBER)                                                                 \
    static NUMBER polynomial_##p(const NUMBER *c, size_t n, NUMBER x)                              \
    {                                                                                              \
        NUMBER sum[2] = {0}; /* of even and of odd powers */                                       \
        for (size_t i = 0; i < n; i++) sum[(n - 1 - i) % 2] = sum[(n - 1 - i) % 2] * (x * x) + c[i]; \
        return n % 2 ? sum[0] + sum[1] * x : sum[1] * x + sum[0];                                  \
    }                                                                                              \
    static NUMBER log_##p(NUMBER x)                                                                \
    {                                                                                              \
        int n;                                                                                     \
        NUMBER m = frexp##f(x, &n);                                                                \
        if (m < drop_root_half_##p) m *= 2, n--;                                                   \
        const NUMBER s = (m - 1) / (m + 1), square = s * s;                                        \
        return n * drop_log2_##p + s * (2 + square * POLYNOMIAL(p, drop_log_##p, square));      \
    }                                                                                              \
    static NUMBER noise_##p(uint64_t word, int factor, double spread, NUMBER x)                    \
    {                                                                                              \
        const NUMBER level = 0 - log_##p(tail_##p(word >> 63 ? ~word : word));                     \
        const NUMBER r = sqrt##f(level + drop_log2_##p);                                           \
        const NUMBER above = POLYNOMIAL(p, drop_quantile_above_##p, r);                         \
        const NUMBER z = level * (above / POLYNOMIAL(p, drop_quantile_below_##p, r));           \
        const NUMBER moved = (NUMBER)spread * copysign##f(z, word >> 63 ? 1 : -1);                 \
        return factor ? x * (1 + moved) : x + moved;                                               \
    }

/* The probability of being farther out, of 63 bits. */
static double tail_f64(uint64_t nearest) { return ((double)(nearest >> 11) + 0.5) * 0x1p-52; }

static float tail_f32(uint64_t nearest)
{
    const float upper = (float)(nearest >> 32), lower = (float)((uint32_t)nearest >> 11);
    return upper * 0x1p-31f + (lower + 0.5f) * 0x1p-52f;
}

DEFINE_NOISE(f32, f, float)
DEFINE_NOISE(f64, , double)

void oracle_noise(drop_dtype dtype, uint64_t word, int factor, double spread, const char *x, char *y)
{
    double d;
    float f;
    uint16_t h;
    switch (dtype) {
    case DROP_F64:
        memcpy(&d, x, sizeof d);
        d = noise_f64(word, factor, spread, d);
        memcpy(y, &d, sizeof d);
        break;
    case DROP_F32:
        memcpy(&f, x, sizeof f);
        f = noise_f32(word, factor, spread, f);
        memcpy(y, &f, sizeof f);
        break;
    default:
        memcpy(&h, x, sizeof h);
        f = noise_f32(word, factor, spread, dtype == DROP_F16 ? widen_f16(h) : widen_bf16(h));
        h = dtype == DROP_F16 ? narrow_f16(f) : narrow_bf16(f);
        memcpy(y, &h, sizeof h);
    }
}

static int is_nan(drop_dtype dtype, const char *a)
{
    double d;
    float f;
    uint16_t h;
    switch (dtype) {
    case DROP_F64: case DROP_C128: memcpy(&d, a, sizeof d); return isnan(d);
    case DROP_F32: case DROP_C64: memcpy(&f, a, sizeof f); return isnan(f);
    default: memcpy(&h, a, sizeof h); return isnan(dtype == DROP_F16 ? widen_f16(h) : widen_bf16(h));
    }
}

int oracle_same(drop_dtype dtype, const char *a, const char *b, int any_nan)
{
    const int size = oracle_item_size(dtype);
    const int parts = dtype == DROP_C64 || dtype == DROP_C128 ? 2 : 1;
    for (int at = 0; at < size; at += size / parts)
        if (memcmp(a + at, b + at, (size_t)(size / parts)) != 0 &&
            !(any_nan && is_nan(dtype, a + at) && is_nan(dtype, b + at)))
            return 0;
    return 1;
}
