/* What the kernels have to compute, said again one element at a time. */
#ifndef FUZZ_ORACLE_H
#define FUZZ_ORACLE_H

#include "kernels/kernels.h"

/* keep[i] = 1 or 0 for the first n elements of a block (DROP_BLOCK at most), as
 * docs/mask-format.md has it. Returns what `fill` returned. */
int oracle_block(const drop_mask *mask, uint64_t block, unsigned n, uint8_t *keep);

int oracle_item_size(drop_dtype dtype);
int oracle_inputs(drop_form form);

/* Writes what a form makes of one element of x and of its operands. */
void oracle_element(drop_form form, drop_dtype dtype, const char *const *in, int kept,
                    const drop_numbers *numbers, char *y);

/* Writes x with the noise that a word stands for, in real numbers. */
void oracle_noise(drop_dtype dtype, uint64_t word, int factor, double spread, const char *x, char *y);

/* Whether two elements are the same, a NaN being the same as any other if `any_nan`. */
int oracle_same(drop_dtype dtype, const char *a, const char *b, int any_nan);

#endif
