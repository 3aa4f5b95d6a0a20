/* A counter-based generator whose counters yield two words each: from its rounds to its words.
 *
 * Included once for each such generator, with its name as GENERATOR and with these defined: the types
 * G(run), what all counters of a run share, and G(lanes), the numbers of several vectors of counters;
 * the numbers G(step), the words of one vector, G(side), how many vectors registers hold, and G(rounds);
 * and the functions
 *
 *     G(start)(key, counter)                  the run of the counters from this one on,
 *     G(left)(position)                       as long as it is the same,
 *     G(begin)(lanes, side, run, counter, step)   what comes before the rounds, for counters `step` apart
 *     G(round)(lanes, side, run, r)
 *     G(end)(lanes, side, run, out)           what comes behind them, and the words
 */

DROP_INLINE void G(batch)(const G(run) *run, uint64_t counter, uint64_t step, int side, uint64_t *out)
{
    G(lanes) s;
    G(begin)(&s, side, run, counter, step);
#pragma GCC unroll 16
    for (int r = 0; r < G(rounds); r++) G(round)(&s, side, run, r);
    G(end)(&s, side, run, out);
}

static int G(fill)(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    enum { STEP = G(step), FEW = (G(side) > 4 ? G(side) / 3 : 2) * STEP, WIDE = G(side) * STEP };
    uint64_t batch[WIDE];
    while (n > 0) {
        const G(run) run = G(start)(key, position / 2);
        uint64_t counter = position / 2, skip = position % 2;
        uint64_t left = n < G(left)(position) ? n : G(left)(position);
        position += left;
        n -= left;
        for (uint64_t take; left > 0; left -= take, out += take, skip = 0) {
            const uint64_t wanted = left + skip, made = wanted > FEW ? WIDE : wanted > STEP ? FEW : STEP;
            uint64_t *const to = skip || left < made ? batch : out;
            if (made == WIDE) G(batch)(&run, counter, 1, G(side), to);
            else if (made == FEW) G(batch)(&run, counter, 1, FEW / STEP, to);
            else G(batch)(&run, counter, 1, 1, to);
            take = made - skip < left ? made - skip : left;
            if (to == batch) copy_bytes(out, batch + skip, take * sizeof *out);
            counter += made / 2;
        }
    }
    return 0;
}

/* Every eighth of 128 words: out[i] is word position + 8 * i. Returns 0 if it did nothing. */
static inline int G(eighths)(const void *key, uint64_t position, uint64_t *out)
{
    enum {
        MOST = G(side) * G(step) < 2 * 16 ? G(side) : 2 * 16 / G(step),
        SIDE = MOST >= 8 ? 8 : MOST >= 4 ? 4 : MOST >= 2 ? 2 : 1, /* so that batches leave no rest */
        COUNTERS = SIDE * G(step) / 2,
    };
    uint64_t batch[2 * COUNTERS];
    if (G(left)(position) < 8 * 16) return 0;
    const G(run) run = G(start)(key, position / 2);
    for (uint64_t i = 0; i < 16; i += COUNTERS) {
        G(batch)(&run, position / 2 + 4 * i, 4, SIDE, batch);
        for (uint64_t j = 0; j < COUNTERS; j++) out[i + j] = batch[2 * j + position % 2];
    }
    return 1;
}

#undef GENERATOR
