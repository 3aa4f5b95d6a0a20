/* Attention of a random shape against a plain loop. */
#ifndef FUZZ_ATTENTION_H
#define FUZZ_ATTENTION_H

#include "kernels/kernels.h"

/* Returns what differs, or NULL; `seed` says the shape and all settings. */
const char *fuzz_attention(const drop_kernels *kernels, const drop_mask *mask, uint64_t seed);

#endif
