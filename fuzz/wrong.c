/* Faults on purpose in results, put between the target and the kernels by the
 * linker's --wrap: FAULT=result, status, beyond, noise or attention. The target has to notice. */
#include <stdlib.h>
#include <string.h>

#include "drivers/attention.h"
#include "drivers/evaluate.h"
#include "drivers/noise.h"

int __real_drop_evaluate(const drop_kernels *kernels, drop_operation *op, drop_workers by);
int __wrap_drop_evaluate(const drop_kernels *kernels, drop_operation *op, drop_workers by);
int __real_drop_add_noise(const drop_kernels *kernels, const drop_noise *noise, drop_arrays *a, drop_workers by);
int __wrap_drop_add_noise(const drop_kernels *kernels, const drop_noise *noise, drop_arrays *a, drop_workers by);

int __real_drop_attend_backward(const drop_kernels *kernels, const drop_attention *a, drop_workers by);
int __wrap_drop_attend_backward(const drop_kernels *kernels, const drop_attention *a, drop_workers by);

static int is_wanted(const char *name)
{
    const char *fault = getenv("FAULT");
    return fault && strcmp(fault, name) == 0;
}

static int is_fault(const char *name, const drop_arrays *a) { return is_wanted(name) && count_elements(a) > 0; }

int __wrap_drop_evaluate(const drop_kernels *kernels, drop_operation *op, drop_workers by)
{
    const drop_arrays *a = &op->arrays;
    const int status = __real_drop_evaluate(kernels, op, by);
    if (is_fault("result", a)) a->at[0][0] ^= 1;
    if (is_fault("beyond", a)) a->at[0][-1] ^= 1; /* a neighbour, a gap or a page of its own */
    return is_fault("status", a) ? 5 : status;
}

int __wrap_drop_add_noise(const drop_kernels *kernels, const drop_noise *noise, drop_arrays *a, drop_workers by)
{
    const int status = __real_drop_add_noise(kernels, noise, a, by);
    if (is_fault("noise", a)) a->at[0][0] ^= 1;
    return status;
}

int __wrap_drop_attend_backward(const drop_kernels *kernels, const drop_attention *a, drop_workers by)
{
    const int status = __real_drop_attend_backward(kernels, a, by);
    /* The upper byte of the first number: sign and exponent. */
    if (is_wanted("attention")) a->dk.at[drop_item_size(a->dtype) - 1] ^= 0x42;
    return status;
}
