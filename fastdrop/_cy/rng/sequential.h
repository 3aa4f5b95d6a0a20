/* A NumPy bit generator as an RNG: it can only be asked for its next word.
 *
 * The key is a drop_sequential that counts the words taken, so positions must
 * ascend, and one thread must do the asking.
 */
#ifndef DROP_SEQUENTIAL_H
#define DROP_SEQUENTIAL_H

#include <stdint.h>

typedef struct {
    uint64_t (*next)(void *state); /* NumPy's bitgen_t.next_uint64 */
    void *state;
    uint64_t taken;
} drop_sequential;

static inline int drop_sequential_fill(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    drop_sequential *s = (drop_sequential *)key;
    if (position < s->taken) return -1;
    for (; s->taken < position; s->taken++) s->next(s->state);
    for (uint64_t i = 0; i < n; i++) out[i] = s->next(s->state);
    s->taken += n;
    return 0;
}

#endif
