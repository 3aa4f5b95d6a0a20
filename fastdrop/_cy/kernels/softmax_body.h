/* Softmax with dropout in one precision. */

#define PER ((int)(DROP_VEC / sizeof(NUMBER)))    /* lanes of a vector */
#define GROUP ((int)(64 / sizeof(NUMBER)))        /* lanes of a sum */
#define VECTORS (GROUP / PER)

typedef struct {
    NUMBER x[64], bias[64], grad[64];
} P(softmax_rest);

DROP_INLINE V P(score)(const NUMBER *x, const NUMBER *bias, NUMBER scale)
{
    const V score = DROP_LOAD(V, x) * scale;
    return bias ? score + DROP_LOAD(V, bias) : score;
}

DROP_INLINE V P(kept)(V v, const uint64_t *bits, int at)
{
    return (V)DROP_JOIN(select_, WIDE)((vu64)v, lane_bits(bits, at / PER, PER));
}

/* Lane i and the lane half the length on, then with half the lanes, until one is left. */
DROP_INLINE NUMBER P(sum_lanes)(const V *lanes)
{
    NUMBER sum[GROUP];
    memcpy(sum, lanes, sizeof sum);
    for (int half = GROUP / 2; half; half /= 2)
        for (int i = 0; i < half; i++) sum[i] += sum[i + half];
    return sum[0];
}

DROP_INLINE NUMBER P(largest_lane)(const V *lanes)
{
    NUMBER all[GROUP], largest = -INFINITY;
    memcpy(all, lanes, sizeof all);
    for (int i = 0; i < GROUP; i++) largest = all[i] > largest ? all[i] : largest;
    return largest;
}

/* The end of a row as whole groups of lanes, in which columns past the row count for nothing. Returns their end. */
DROP_INLINE int P(softmax_copy_rest)(P(softmax_rest) *rest, const NUMBER *x, const NUMBER *bias, size_t n)
{
    const size_t last = (n - 1) / GROUP * GROUP;
    for (size_t i = last; i < last + GROUP; i++) rest->x[i] = 0, rest->bias[i] = -INFINITY;
    copy_bytes(rest->x, x, n * sizeof *x);
    if (bias) copy_bytes(rest->bias, bias, n * sizeof *bias);
    else
        for (size_t i = 0; i < n; i++) rest->bias[i] = 0;
    return (int)last + GROUP;
}

/* Some numbers as whole groups of lanes, the others 0. */
DROP_INLINE int P(copy_rest)(NUMBER *rest, const NUMBER *x, size_t n)
{
    const size_t last = (n - 1) / GROUP * GROUP;
    for (size_t i = last; i < last + GROUP; i++) rest[i] = 0;
    copy_bytes(rest, x, n * sizeof *x);
    return (int)last + GROUP;
}

/* Columns 0 .. end-1 of a word, which are whole groups of lanes. */
DROP_INLINE void P(largest_of_word)(int end, const NUMBER *x, const NUMBER *bias, NUMBER scale, V *largest)
{
    for (int i = 0; i < end; i += GROUP)
        for (int k = 0; k < VECTORS; k++) {
            const int at = i + k * PER;
            largest[k] = P(larger)(P(score)(x + at, bias ? bias + at : NULL, scale), largest[k]);
        }
}

DROP_INLINE void P(exp_of_word)(int end, const NUMBER *x, const NUMBER *bias, NUMBER scale, NUMBER base,
                                uint64_t bits, NUMBER *y, V *sum)
{
    DROP_IN_MEMORY(bits);
    for (int i = 0; i < end; i += GROUP)
        for (int k = 0; k < VECTORS; k++) {
            const int at = i + k * PER;
            const V e = P(exp_below)(P(score)(x + at, bias ? bias + at : NULL, scale) - base);
            sum[k] += e;
            DROP_STORE(y + at, P(kept)(e, &bits, at));
        }
}

DROP_INLINE NUMBER P(exp_of_one)(NUMBER x) { return P(exp_below)((V){0} + x)[0]; }

DROP_INLINE void P(softmax_row)(const drop_tile *t, size_t r, const NUMBER *x, const NUMBER *bias, NUMBER *y,
                                NUMBER *highest, NUMBER *total, NUMBER *change)
{
    const NUMBER scale = (NUMBER)t->scale;
    const size_t n = columns_of_row(t, r), left = n % 64, whole = n - left;
    P(softmax_rest) rest;
    V lanes[VECTORS];
    int end = 0;
    for (int k = 0; k < VECTORS; k++) lanes[k] = (V){0} + *highest;
    for (size_t c = 0; c < whole; c += 64) P(largest_of_word)(64, x + c, bias ? bias + c : NULL, scale, lanes);
    if (left) {
        end = P(softmax_copy_rest)(&rest, x + whole, bias ? bias + whole : NULL, left);
        P(largest_of_word)(end, rest.x, rest.bias, scale, lanes);
    }
    const NUMBER above = P(largest_lane)(lanes), base = above == -INFINITY ? 0 : above;
    for (int k = 0; k < VECTORS; k++) lanes[k] = (V){0};
    for (size_t c = 0; c < whole; c += 64)
        P(exp_of_word)(64, x + c, bias ? bias + c : NULL, scale, base, bits_of_row(t, r, c), y + c, lanes);
    if (left) {
        P(exp_of_word)(end, rest.x, rest.bias, scale, base, bits_of_row(t, r, whole), rest.grad, lanes);
        copy_bytes(y + whole, rest.grad, left * sizeof *y);
    }
    memset(y + n, 0, (t->columns - n) * sizeof *y);
    *change = P(exp_of_one)(*highest - base);
    *total = *total * *change + P(sum_lanes)(lanes);
    *highest = above;
}

/* The numbers of rows of which no block of columns has come yet. */
static void P(softmax_start)(size_t rows, void *highest, void *total)
{
    for (size_t r = 0; r < rows; r++) ((NUMBER *)highest)[r] = -INFINITY, ((NUMBER *)total)[r] = 0;
}

/* y becomes exp(score - highest) where the mask keeps, +0 elsewhere; y may be x. A row's blocks of columns
 * come one after the other: `highest` and `total` are those of the blocks before (or `start`'s) and
 * then include this one, and what was made of the blocks before is to be multiplied by `change`. */
static void P(softmax)(const drop_tile *t, const void *x, void *y, void *highest, void *total, void *change)
{
    for (size_t r = 0; r < t->rows; r++) {
        const NUMBER *from = (const NUMBER *)x + r * t->pitch, *bias = t->bias;
        NUMBER *to = (NUMBER *)y + r * t->pitch, *h = (NUMBER *)highest + r, *s = (NUMBER *)total + r;
        NUMBER *c = (NUMBER *)change + r;
        if (bias) P(softmax_row)(t, r, from, bias + r * t->bias_pitch, to, h, s, c);
        else P(softmax_row)(t, r, from, NULL, to, h, s, c);
    }
}

DROP_INLINE void P(softmax_grad_of_word)(int end, const NUMBER *x, const NUMBER *bias, const drop_tile *t, NUMBER base,
                                         NUMBER keep_scale, NUMBER delta, uint64_t bits, const NUMBER *grad,
                                         NUMBER *y, NUMBER *dx)
{
    const NUMBER scale = (NUMBER)t->scale;
    DROP_IN_MEMORY(bits);
    for (int at = 0; at < end; at += PER) {
        const V p = P(exp_below)(P(score)(x + at, bias ? bias + at : NULL, scale) - base);
        const V g = P(kept)(DROP_LOAD(V, grad + at) * keep_scale, &bits, at);
        DROP_STORE(y + at, P(kept)(p * keep_scale, &bits, at));
        DROP_STORE(dx + at, p * (g - delta));
    }
}

DROP_INLINE void P(softmax_grad_row)(const drop_tile *t, size_t r, NUMBER *x, const NUMBER *bias, NUMBER *grad,
                                     NUMBER highest, NUMBER delta)
{
    /* Factors of the row instead of its exponentials. By 1 they stay what they are. */
    const NUMBER inverse = t->inverse ? ((const NUMBER *)t->inverse)[r] : 1;
    const NUMBER keep_scale = (NUMBER)t->keep_scale * inverse, moved = delta * inverse;
    const size_t n = columns_of_row(t, r), left = n % 64, whole = n - left;
    const NUMBER base = highest == -INFINITY ? INFINITY : highest; /* all of the row is masked */
    P(softmax_rest) rest;
    for (size_t c = 0; c < whole; c += 64)
        P(softmax_grad_of_word)(64, x + c, bias ? bias + c : NULL, t, base, keep_scale, moved, bits_of_row(t, r, c), grad + c,
                                x + c, grad + c);
    if (left) {
        const int end = P(softmax_copy_rest)(&rest, x + whole, bias ? bias + whole : NULL, left);
        P(copy_rest)(rest.grad, grad + whole, left);
        P(softmax_grad_of_word)(end, rest.x, rest.bias, t, base, keep_scale, moved, bits_of_row(t, r, whole), rest.grad,
                                rest.x, rest.grad);
        copy_bytes(x + whole, rest.x, left * sizeof *x);
        copy_bytes(grad + whole, rest.grad, left * sizeof *grad);
    }
    memset(x + n, 0, (t->columns - n) * sizeof *x);
    memset(grad + n, 0, (t->columns - n) * sizeof *grad);
}

/* The backward pass, from scores again: x becomes the dropped probabilities, and `grad`, which is their
 * gradient, that of the scores, but for the factor `scale`. `delta` is a row's sum of gradient times dropped
 * probability. `highest` is its largest score, with t->inverse one by its sum of exponentials; or, without that, the
 * logarithm of the sum of exponentials of its scores. */
static void P(softmax_backward)(const drop_tile *t, void *x, void *grad, const void *highest, const void *delta)
{
    for (size_t r = 0; r < t->rows; r++) {
        NUMBER *row = (NUMBER *)x + r * t->pitch, *grad_row = (NUMBER *)grad + r * t->pitch;
        const NUMBER h = ((const NUMBER *)highest)[r], d = ((const NUMBER *)delta)[r], *bias = t->bias;
        if (bias) P(softmax_grad_row)(t, r, row, bias + r * t->bias_pitch, grad_row, h, d);
        else P(softmax_grad_row)(t, r, row, NULL, grad_row, h, d);
    }
}

/* Multiplies rows by a factor each. */
static void P(multiply_rows)(void *x, size_t pitch, size_t rows, size_t columns, const void *factors)
{
    for (size_t r = 0; r < rows; r++) {
        NUMBER *row = (NUMBER *)x + r * pitch;
        const NUMBER factor = ((const NUMBER *)factors)[r];
        for (size_t c = 0; c < columns; c++) row[c] *= factor;
    }
}

DROP_INLINE void P(normalize_word)(int end, NUMBER *y, NUMBER factor, uint64_t bits)
{
    DROP_IN_MEMORY(bits);
    for (int at = 0; at < end; at += PER) DROP_STORE(y + at, P(kept)(DROP_LOAD(V, y + at) * factor, &bits, at));
}

/* Multiplies whole rows by a factor each, but keeps the dropped elements +0: a factor may be NaN. */
static void P(normalize_rows)(const drop_tile *t, void *y, const void *factors)
{
    for (size_t r = 0; r < t->rows; r++) {
        NUMBER *row = (NUMBER *)y + r * t->pitch, rest[64];
        const NUMBER factor = ((const NUMBER *)factors)[r];
        const size_t n = columns_of_row(t, r), left = n % 64, whole = n - left;
        for (size_t c = 0; c < whole; c += 64) P(normalize_word)(64, row + c, factor, bits_of_row(t, r, c));
        if (!left) continue;
        const int end = P(copy_rest)(rest, row + whole, left);
        P(normalize_word)(end, rest, factor, bits_of_row(t, r, whole));
        copy_bytes(row + whole, rest, left * sizeof *row);
    }
}

DROP_INLINE void P(products_of_word)(int end, const NUMBER *y, const NUMBER *grad, uint64_t bits, V *sum)
{
    DROP_IN_MEMORY(bits);
    for (int i = 0; i < end; i += GROUP)
        for (int k = 0; k < VECTORS; k++) {
            const int at = i + k * PER;
            sum[k] += P(kept)(DROP_LOAD(V, y + at) * DROP_LOAD(V, grad + at), &bits, at);
        }
}

/* Each whole row's sum of y times gradient, times a factor: `delta` of the backward pass, for what
 * `forward` has made of the row. */
static void P(row_products)(const drop_tile *t, const void *y, const void *grad, const void *factors, void *sums)
{
    for (size_t r = 0; r < t->rows; r++) {
        const NUMBER *row = (const NUMBER *)y + r * t->pitch, *grad_row = (const NUMBER *)grad + r * t->pitch;
        const size_t n = columns_of_row(t, r), left = n % 64, whole = n - left;
        NUMBER rest[64], grad_rest[64];
        V lanes[VECTORS] = {{0}};
        for (size_t c = 0; c < whole; c += 64)
            P(products_of_word)(64, row + c, grad_row + c, bits_of_row(t, r, c), lanes);
        if (left) {
            const int end = P(copy_rest)(rest, row + whole, left);
            P(copy_rest)(grad_rest, grad_row + whole, left);
            P(products_of_word)(end, rest, grad_rest, bits_of_row(t, r, whole), lanes);
        }
        ((NUMBER *)sums)[r] = ((const NUMBER *)factors)[r] * P(sum_lanes)(lanes);
    }
}

/* What a row is multiplied by at its end, and, unless `lse` is NULL, the logarithm of its sum of exponentials.
 * A row that is all masked is 0, and its logarithm -inf. */
static void P(softmax_end)(const void *highest, const void *total, size_t rows, double keep_scale, void *factors,
                           void *lse)
{
    for (size_t r = 0; r < rows; r++) {
        const NUMBER h = ((const NUMBER *)highest)[r], sum = ((const NUMBER *)total)[r];
        ((NUMBER *)factors)[r] = sum == 0 ? 0 : (NUMBER)keep_scale / sum;
        /* log takes positive numbers: a row with NaN or +inf has NaN. */
        if (lse) ((NUMBER *)lse)[r] = sum > 0 ? h + P(log)((V){0} + sum)[0] : sum == 0 ? -INFINITY : sum;
    }
}

static const drop_softmax_runs P(softmax_runs) = {
    .start = P(softmax_start),
    .forward = P(softmax),
    .end = P(softmax_end),
    .backward = P(softmax_backward),
    .multiply = P(multiply_rows),
    .normalize = P(normalize_rows),
    .products = P(row_products),
};

#undef PER
#undef GROUP
#undef VECTORS
