/* The functions that other extensions call: include/fastdrop.h says what they do. */
#include "drivers/api.h"

#include <string.h>

#include "drivers/evaluate.h"
#include "drivers/mask.h"
#include "kernels/mask_bits.h"
#include "runtime/isa.h"

/* Frozen: extensions that are built have these places compiled in. A new function comes last. */
#define AT(member, at) _Static_assert(offsetof(fastdrop_api, member) == (at), "a member of the table has moved")
AT(abi_version, 0);
AT(struct_size, 4);
AT(fill, 8);
AT(threshold, 16);
AT(words, 24);
AT(block_bits, 32);
AT(bits, 40);
AT(apply, 48);
AT(open_mask, 56);
_Static_assert(sizeof(fastdrop_mask) == 48 && offsetof(fastdrop_mask, scale) == 40, "fastdrop_mask has changed");
#define EQUAL(theirs, ours) _Static_assert((int)(theirs) == (int)(ours), "the header has another number")
EQUAL(FASTDROP_BLOCK, DROP_BLOCK);
EQUAL(FASTDROP_MAX_DIMS, DROP_MAX_DIMS);
EQUAL(FASTDROP_NO_MEMORY, DROP_NO_MEMORY);
EQUAL(FASTDROP_UNWRITTEN, DROP_UNWRITTEN);

static fastdrop_fill fill_of(const char *name)
{
    for (int i = 0; i < DROP_GENERATORS; i++)
        if (strcmp(name, drop_generator_name((drop_generator)i)) == 0) return drop_generator_fill((drop_generator)i);
    return NULL;
}

/* As mask_format.py computes it: exact, for p * 2^40 is, and rounded once, ties to even. */
static uint64_t threshold_of(double p)
{
    if (!(p >= 0.0 && p <= 1.0)) return UINT64_MAX;
    const double scaled = p * (double)DROP_ONE;
    const uint64_t below = (uint64_t)scaled;
    const double rest = scaled - (double)below;
    return DROP_ONE - (below + (rest > 0.5 || (rest == 0.5 && below % 2)));
}

static uint64_t words_of(uint64_t threshold, uint64_t n)
{
    const uint64_t blocks = n / DROP_BLOCK + (n % DROP_BLOCK != 0);
    return threshold > DROP_ONE ? 0 : blocks * block_layout(threshold).words;
}

static int is_wrong(const fastdrop_mask *mask) { return !mask->fill || !mask->key || mask->threshold > DROP_ONE; }

static drop_mask inner(const fastdrop_mask *mask)
{
    return (drop_mask){drop_chosen_fill(mask->fill), mask->key, mask->draw, mask->threshold};
}

/* Whether elements first to first + n - 1 have numbers that 64 bits hold. */
static int is_beyond(const fastdrop_mask *mask, uint64_t first, uint64_t n)
{
    return first > UINT64_MAX - mask->first || n > UINT64_MAX - (mask->first + first);
}

static int bits_of(const fastdrop_mask *mask, uint64_t first, uint64_t n, uint64_t *bits)
{
    if (is_wrong(mask) || is_beyond(mask, first, n)) return FASTDROP_BAD_ARGUMENT;
    const drop_mask of = inner(mask);
    return drop_range_bits(drop_chosen_kernels(), &of, mask->first + first, n, bits, 0);
}

static int block_bits_of(const fastdrop_mask *mask, uint64_t block, uint64_t *bits)
{
    if (block > UINT64_MAX / DROP_BLOCK) return FASTDROP_BAD_ARGUMENT;
    return bits_of(mask, block * DROP_BLOCK, DROP_BLOCK, bits);
}

static int apply(const fastdrop_mask *mask, uint64_t first, fastdrop_dtype dtype, int ndim, const ptrdiff_t *shape,
                 const void *x, const ptrdiff_t *x_strides, void *y, const ptrdiff_t *y_strides)
{
    static const drop_dtype dtypes[] = {
        [FASTDROP_FLOAT16] = DROP_F16,     [FASTDROP_BFLOAT16] = DROP_BF16,  [FASTDROP_FLOAT32] = DROP_F32,
        [FASTDROP_FLOAT64] = DROP_F64,     [FASTDROP_COMPLEX64] = DROP_C64, [FASTDROP_COMPLEX128] = DROP_C128,
    };
    if (is_wrong(mask) || (unsigned)dtype >= sizeof dtypes / sizeof *dtypes || ndim < 0 || ndim > DROP_MAX_DIMS)
        return FASTDROP_BAD_ARGUMENT;
    const drop_mask of = inner(mask);
    drop_operation op = {.mask = &of, .first = mask->first + first, .form = DROP_SCALE,
                         .numbers = {.scale = mask->scale}};
    op.arrays.ndim = ndim, op.arrays.count = 2, op.arrays.dtype = dtypes[dtype];
    op.arrays.at[0] = y, op.arrays.at[1] = (char *)(uintptr_t)x;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0) return FASTDROP_BAD_ARGUMENT;
        op.arrays.shape[i] = shape[i];
        op.arrays.stride[0][i] = y_strides[i], op.arrays.stride[1][i] = x_strides[i];
    }
    if (is_beyond(mask, first, count_elements(&op.arrays))) return FASTDROP_BAD_ARGUMENT;
    return drop_evaluate(drop_chosen_kernels(), &op, (drop_workers){1, NULL});
}

fastdrop_api drop_api = {
    .abi_version = FASTDROP_ABI_VERSION,
    .struct_size = sizeof(fastdrop_api),
    .fill = fill_of,
    .threshold = threshold_of,
    .words = words_of,
    .block_bits = block_bits_of,
    .bits = bits_of,
    .apply = apply,
};
