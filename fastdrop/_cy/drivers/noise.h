/* Whole arrays with noise: which word each element takes, in whatever order it lies in memory. */
#ifndef DROP_NOISE_H
#define DROP_NOISE_H

#include "drivers/arrays.h"
#include "runtime/tasks.h"

typedef struct {
    fastdrop_fill fill;
    const void *key;
    uint64_t draw;  /* position of the first element's word; the others' follow in C order */
    int factor;     /* x * (1 + spread * z), or x + spread * z */
    double spread;
} drop_noise;

/* Changes the arrays' axes. Returns 0, or what `fill` returned if it failed. One
 * thread asks for the words of arrays in C order in order. */
int drop_add_noise(const drop_kernels *kernels, const drop_noise *noise, drop_arrays *arrays,
                   drop_workers by);

#endif
