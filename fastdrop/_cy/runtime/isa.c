#include "runtime/isa.h"

#include <stdatomic.h>
#include <string.h>

/* A build for one processor, whose flags name it, may have the baseline alone. */
#if (defined(__x86_64__) || (defined(__aarch64__) && defined(__linux__))) && !defined(DROP_BASELINE_ONLY)
#define HAS_OTHERS 1
#else
#define HAS_OTHERS 0
#endif

extern const drop_kernels drop_kernels_baseline, drop_kernels_aes, drop_kernels_avx2, drop_kernels_vaes, drop_kernels_avx512;

#if HAS_OTHERS && defined(__x86_64__)
#include <cpuid.h>

/* __builtin_cpu_supports("f16c") is an error to Clang 16 and before. Whether the
 * system saves the registers it needs, the question about AVX2 tells. */
static int has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_aes(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_AES);
}

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") && has_f16c() && has_aes();
}

static int has_vaes(void)
{
    unsigned a, b, c = 0, d;
    return has_avx2() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VAES);
}

static int has_avx512(void)
{
    return has_vaes() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512ifma");
}
#elif HAS_OTHERS
#include <sys/auxv.h>

static int has_aes(void) { return (getauxval(AT_HWCAP) & 1 << 3) != 0; } /* HWCAP_AES */
#endif

enum { MOST = 5 };
static const drop_kernels *available[MOST + 1];
static const char *names[MOST + 1];

static void look(void)
{
    int n = 0;
    if (available[0]) return;
#if HAS_OTHERS && defined(__x86_64__)
    __builtin_cpu_init();
    if (has_avx512()) available[n++] = &drop_kernels_avx512;
    if (has_vaes()) available[n++] = &drop_kernels_vaes;
    if (has_avx2()) available[n++] = &drop_kernels_avx2;
#endif
#if HAS_OTHERS
    if (has_aes()) available[n++] = &drop_kernels_aes;
#endif
    available[n++] = &drop_kernels_baseline;
    for (int i = 0; i < n; i++) {
        names[i] = available[i]->name;
        for (int j = 0; j < DROP_GENERATORS; j++)
            if (available[i]->prepare[j]) available[i]->prepare[j]();
    }
}

const char *const *drop_isa_names(void)
{
    look();
    return names;
}

const drop_kernels *drop_isa_kernels(const char *name)
{
    look();
    if (!name) return available[0];
    for (int i = 0; available[i]; i++)
        if (strcmp(name, available[i]->name) == 0) return available[i];
    return NULL;
}

static const drop_kernels *chosen;

int drop_choose_isa(const char *name)
{
    const drop_kernels *kernels = drop_isa_kernels(name);
    if (kernels) chosen = kernels;
    return kernels != NULL;
}

const drop_kernels *drop_chosen_kernels(void) { return chosen; }

/* For each generator a function that calls the chosen one. */
#define FILL(name) int name(const void *key, uint64_t position, uint64_t n, uint64_t *out)
#define GENERATOR_EACH(name, CODE, ...) static FILL(name##_chosen) { return chosen->fill[DROP_##CODE](key, position, n, out); }
#include "rng/generators.def"

static const struct {
    const char *name;
    fastdrop_fill fill;
} generators[] = {
#define GENERATOR_EACH(name, ...) {#name, name##_chosen},
#include "rng/generators.def"
};

const char *drop_generator_name(drop_generator generator) { return generators[generator].name; }

fastdrop_fill drop_generator_fill(drop_generator generator) { return generators[generator].fill; }

fastdrop_fill drop_chosen_fill(fastdrop_fill fill)
{
    for (int i = 0; i < DROP_GENERATORS; i++)
        if (fill == generators[i].fill) return chosen->fill[i];
    return fill;
}

static _Atomic(const char *) newest_pipeline;

void drop_note_pipeline(const drop_kernels *kernels)
{
    /* Read first: threads share the line, and it hardly ever changes. */
    if (atomic_load_explicit(&newest_pipeline, memory_order_relaxed) != kernels->name)
        atomic_store_explicit(&newest_pipeline, kernels->name, memory_order_relaxed);
}

const char *drop_take_pipeline(void) { return atomic_exchange(&newest_pipeline, NULL); }
