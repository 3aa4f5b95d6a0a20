/* The C part of fastdrop's RNG interface: what a third-party generator provides.
 *
 * Fill in one `fastdrop_rng` with static storage, wrap it in a PyCapsule named
 * FASTDROP_RNG_CAPSULE, and hand that capsule to fastdrop as the `capsule`
 * attribute of a registered class (docs/design.md, "The RNG interface").
 */
#ifndef FASTDROP_RNG_H
#define FASTDROP_RNG_H

#include <stdint.h>

#define FASTDROP_RNG_ABI_VERSION 1
#define FASTDROP_RNG_CAPSULE "fastdrop.rng"

/* Writes words position .. position + n - 1 of the stream of 64-bit words that
 * `key` selects to out[0 .. n-1]. Pure: no hidden state, callable from any
 * thread, for any position, in any order. Returns 0, or any other number to
 * report a failure: the whole operation then raises RuntimeError. It does so too
 * if 0 is returned and word n - 1 was not written, as after an exception in Python code. */
typedef int (*fastdrop_fill)(const void *key, uint64_t position, uint64_t n, uint64_t *out);

typedef struct {
    uint32_t abi_version; /* FASTDROP_RNG_ABI_VERSION */
    uint32_t struct_size; /* sizeof(fastdrop_rng): room to grow without a new version */
    uint64_t key_words;   /* 64-bit words that `key` points to */
    fastdrop_fill fill;
} fastdrop_rng;

#endif
