#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* Runs the case that some bytes, any bytes, stand for; aborts if a result is wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
