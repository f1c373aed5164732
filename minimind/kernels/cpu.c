/* What lies between the matrix products of a decoder's training step, each in one pass over memory.
 *
 * `cpu.py` compiles this file twice, for activations in bfloat16 (-DBF16) and in fp32, and says what each function
 * computes; `model.py` and `losses.py` hold the plain PyTorch that it stands in for, and tests/kernels/test_cpu.py holds
 * the two together. Arithmetic is fp32 in both. Loops are written so that a compiler makes vector code of them, as wide
 * as the processor's vectors are; only the products within attention name vectors themselves. On a processor that does
 * not multiply bfloat16 their pairs are widened, so that the same code can be tested anywhere. Work is split into pieces
 * that do not depend on the number of threads, and sums are taken in a fixed order, so results do not either.
 *
 * N tokens, D width, V vocabulary, H query heads, G key/value heads, K head width, L length of a document.
 */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16 /* numbers in a vector */
#define TILE 4   /* vectors beside each other in the tile of a product: 4 * TILE sums stay in registers */
#elif defined(__AVX__)
#define LANES 8
#define TILE 2
#elif defined(__aarch64__)
#define LANES 4
#define TILE 4
#else
#define LANES 4
#define TILE 2
#endif

#define LONGEST 16 /* of the above: running maxima that are kept side by side */
#define CHUNKS 64  /* pieces of a sum over tokens */
#define ROWS 64    /* queries that attend side by side */

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef float loose_floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#ifdef BF16
typedef uint16_t real; /* an activation */
typedef uint32_t unit __attribute__((may_alias)); /* what a product takes at once: neighbours along its inner axis */
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint32_t loose_words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#else
typedef float real;
typedef float unit;
#endif
#define PAIR ((long)(sizeof(unit) / sizeof(real))) /* activations in a unit */

static inline long round_up(long n, long multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline long smaller(long a, long b) { return a < b ? a : b; }

static inline float widen(real x) {
#ifdef BF16
    union { uint32_t u; float f; } v = {(uint32_t)x << 16};
    return v.f;
#else
    return x;
#endif
}

/* Round to nearest, ties to even; not-a-number stays one. */
static inline real narrow(float x) {
#ifdef BF16
    union { float f; uint32_t u; } v = {x};
    uint32_t rounded = (v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16;
    return (v.u & 0x7fffffff) > 0x7f800000 ? (real)((v.u >> 16) | 64) : (real)rounded;
#else
    return x;
#endif
}

/* e^x to about two units in the last place: 2^n · e^f with n whole and f small, e^f by its Taylor series. Below -87 it
 * is e^-87, above 88 e^88; not-a-number stays one. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float f = x - n * 0.693145751953125f; /* in this order: n times the first constant is exact */
    f -= n * 1.42860677e-6f;
    float p = 1.0f / 720;
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    union { uint32_t u; float f; } power = {(uint32_t)((int32_t)n + 127) << 23};
    return p * power.f;
}

/* The largest of `count` numbers; not-a-number is passed over. */
static inline float largest(const float *x, long count) {
    float tops[LONGEST];
    for (int i = 0; i < LONGEST; i++) tops[i] = -INFINITY;
    long whole = count / LONGEST * LONGEST;
    for (long d = 0; d < whole; d += LONGEST)
        for (int i = 0; i < LONGEST; i++) tops[i] = x[d + i] > tops[i] ? x[d + i] : tops[i];
    for (long d = whole; d < count; d++) tops[0] = x[d] > tops[0] ? x[d] : tops[0];
    for (int i = 1; i < LONGEST; i++) tops[0] = tops[i] > tops[0] ? tops[i] : tops[0];
    return tops[0];
}

/* ---- RMSNorm of a residual stream ------------------------------------------------------------------------------ */

void norm_forward(const real *x, const real *branch, const float *weight, float eps, long n, long width, real *sum,
                  real *y, float *scales) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const real *restrict source = x + i * width;
        real *restrict out = y + i * width;
        if (branch) {
            const real *restrict other = branch + i * width;
            real *restrict both = sum + i * width;
            for (long d = 0; d < width; d++) both[d] = narrow(widen(source[d]) + widen(other[d]));
            source = both;
        }
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (long d = 0; d < width; d++) squares += widen(source[d]) * widen(source[d]);
        float scale = 1 / sqrtf(squares / width + eps);
        for (long d = 0; d < width; d++) out[d] = narrow(widen(source[d]) * (scale * weight[d]));
        scales[i] = scale;
    }
}

void norm_backward(const real *dy, const real *dsum, const real *x, const float *scales, const float *weight, long n,
                   long width, real *dx, float *dweight) {
    float *partial = calloc(CHUNKS * width, sizeof(float));
#pragma omp parallel for schedule(static)
    for (long chunk = 0; chunk < CHUNKS; chunk++) {
        float *restrict sums = partial + chunk * width;
        for (long i = chunk * n / CHUNKS; i < (chunk + 1) * n / CHUNKS; i++) {
            const real *restrict gradient = dy + i * width, *restrict in = x + i * width;
            const real *restrict through = dsum + i * width;
            real *restrict out = dx + i * width;
            float scale = scales[i], dot = 0;
#pragma omp simd reduction(+ : dot)
            for (long d = 0; d < width; d++) {
                float product = widen(gradient[d]) * widen(in[d]);
                dot += product * weight[d];
                sums[d] += product * scale;
            }
            dot *= scale * scale / width;
            for (long d = 0; d < width; d++) {
                float value = widen(gradient[d]) * weight[d] - widen(in[d]) * dot;
                out[d] = narrow(scale * value + widen(through[d]));
            }
        }
    }
    memset(dweight, 0, width * sizeof(float));
    for (long chunk = 0; chunk < CHUNKS; chunk++)
        for (long d = 0; d < width; d++) dweight[d] += partial[chunk * width + d];
    free(partial);
}

/* ---- SwiGLU ---------------------------------------------------------------------------------------------------- */

static inline float sigmoid(float x) { return 1 / (1 + exponential(-x)); }

void swiglu_forward(const real *gate_up, long n, long width, real *y) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const real *restrict gates = gate_up + 2 * i * width, *restrict ups = gates + width;
        real *restrict out = y + i * width;
        for (long d = 0; d < width; d++) {
            float gate = widen(gates[d]);
            out[d] = narrow(gate * sigmoid(gate) * widen(ups[d]));
        }
    }
}

void swiglu_backward(const real *dy, const real *gate_up, long n, long width, real *dgate_up) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const real *restrict gradients = dy + i * width;
        const real *restrict gates = gate_up + 2 * i * width, *restrict ups = gates + width;
        real *restrict dgates = dgate_up + 2 * i * width, *restrict dups = dgates + width;
        for (long d = 0; d < width; d++) {
            float gate = widen(gates[d]), gradient = widen(gradients[d]), s = sigmoid(gate), silu = gate * s;
            dgates[d] = narrow(gradient * widen(ups[d]) * (s + silu * (1 - s))); /* silu' = s + silu (1 - s) */
            dups[d] = narrow(gradient * silu);
        }
    }
}

/* ---- Cross-entropy --------------------------------------------------------------------------------------------- */

void cross_entropy(real *logits, const int64_t *targets, long n, long vocabulary, float *losses) {
#pragma omp parallel
    {
        float *restrict values = aligned_alloc(64, round_up(vocabulary * sizeof(float), 64));
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++) {
            real *restrict row = logits + i * vocabulary;
            float check = 0, sum = 0, right = widen(row[targets[i]]);
#pragma omp simd reduction(+ : check)
            for (long v = 0; v < vocabulary; v++) {
                values[v] = widen(row[v]);
                check += values[v];
            }
            /* The largest of a row that holds not-a-number may leave it out; the sum never does. */
            float top = isnan(check) ? check : largest(values, vocabulary);
#pragma omp simd reduction(+ : sum)
            for (long v = 0; v < vocabulary; v++) {
                values[v] = exponential(values[v] - top);
                sum += values[v];
            }
            losses[i] = logf(sum) + top - right;
            float inverse = 1 / sum;
            for (long v = 0; v < vocabulary; v++) row[v] = narrow(values[v] * inverse);
            row[targets[i]] = narrow(values[targets[i]] / sum - 1);
        }
        free(values);
    }
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

/* sum += left · right, inner neighbours of a unit added up. */
static inline floats product(floats sum, unit left, const unit *right) {
#if defined(BF16) && defined(__AVX512BF16__)
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)left), (__m512bh)_mm512_loadu_si512(right));
#elif defined(BF16)
    words both = *(const loose_words *)right;
    return sum + widen((real)left) * (floats)(both << 16) + widen((real)(left >> 16)) * (floats)(both & 0xffff0000u);
#else
    return sum + left * *(const loose_floats *)right;
#endif
}

/* C (M, LANES · columns) = or += A (M, inner) · B (inner, LANES · columns), M a multiple of 4, A and B of units. */
static inline __attribute__((always_inline)) void tile(const int columns, long inner, const unit *a, long lda,
                                                       const unit *b, long ldb, float *c, long ldc, int add) {
    floats sum[4][TILE];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < columns; j++) {
            sum[i][j] = (floats){0};
            if (add) sum[i][j] = *(const loose_floats *)(c + i * ldc + LANES * j);
        }
    for (long k = 0; k < inner; k++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < columns; j++) sum[i][j] = product(sum[i][j], a[i * lda + k], b + k * ldb + LANES * j);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < columns; j++) *(loose_floats *)(c + i * ldc + LANES * j) = sum[i][j];
}

static __attribute__((noinline)) void multiply(long m, long columns, long inner, const unit *a, long lda, const unit *b, long ldb, float *c,
                     long ldc, int add) {
    for (long j = 0; j < columns; j += TILE)
        for (long i = 0; i < m; i += 4) {
            const unit *left = a + i * lda, *right = b + LANES * j;
            float *out = c + i * ldc + LANES * j;
            switch (smaller(columns - j, TILE)) {
            case 1: tile(1, inner, left, lda, right, ldb, out, ldc, add); break;
#if TILE == 4
            case 2: tile(2, inner, left, lda, right, ldb, out, ldc, add); break;
            case 3: tile(3, inner, left, lda, right, ldb, out, ldc, add); break;
#endif
            default: tile(TILE, inner, left, lda, right, ldb, out, ldc, add);
            }
        }
}

/* One head of one token: normalised (with a weight), turned to its position, scaled. */
static inline __attribute__((always_inline)) void turn(const real *restrict x, const float *restrict weight, float eps,
                                                       const float *restrict cosine, const float *restrict sine,
                                                       const long width, float scale, real *restrict y) {
    const long half = width / 2;
    float values[width];
    if (weight) {
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (long d = 0; d < width; d++) squares += widen(x[d]) * widen(x[d]);
        scale /= sqrtf(squares / width + eps);
        for (long d = 0; d < width; d++) values[d] = widen(x[d]) * scale * weight[d];
    } else
        for (long d = 0; d < width; d++) values[d] = widen(x[d]) * scale;
    for (long d = 0; d < half; d++) {
        y[d] = narrow(values[d] * cosine[d] - values[d + half] * sine[d]);
        y[d + half] = narrow(values[d + half] * cosine[d] + values[d] * sine[d]);
    }
}

/* The gradient of `turn`: from dy, which it overwrites, to x; and to the weight, which it adds up. */
static inline __attribute__((always_inline)) void turn_back(float *restrict dy, const real *restrict x,
                                                            const float *restrict weight, float eps,
                                                            const float *restrict cosine, const float *restrict sine,
                                                            const long width, float scale, real *restrict dx,
                                                            float *restrict dweight) {
    const long half = width / 2;
    for (long d = 0; d < half; d++) {
        float a = dy[d], b = dy[d + half];
        dy[d] = scale * (a * cosine[d] + b * sine[d]);
        dy[d + half] = scale * (b * cosine[d] - a * sine[d]);
    }
    if (!weight) {
        for (long d = 0; d < width; d++) dx[d] = narrow(dy[d]);
        return;
    }
    float squares = 0, dot = 0;
#pragma omp simd reduction(+ : squares, dot)
    for (long d = 0; d < width; d++) {
        squares += widen(x[d]) * widen(x[d]);
        dot += dy[d] * weight[d] * widen(x[d]);
    }
    float inverse = 1 / sqrtf(squares / width + eps);
    dot *= inverse * inverse / width;
    for (long d = 0; d < width; d++) {
        dweight[d] += dy[d] * widen(x[d]) * inverse;
        dx[d] = narrow(inverse * (dy[d] * weight[d] - widen(x[d]) * dot));
    }
}

/* x (rows, units) → y (units, ld), zeros from `rows` on. */
static inline void transpose(const unit *restrict x, long rows, long units, unit *restrict y, long ld) {
    for (long w = 0; w < units; w++) {
        for (long j = 0; j < rows; j++) y[w * ld + j] = x[j * units + w];
        for (long j = rows; j < ld; j++) y[w * ld + j] = 0;
    }
}

/* Neighbouring rows in units: x (rows, width), `stride` from row to row → y (ceil(rows / PAIR), ld), zeros behind. */
static inline void interleave(const real *restrict x, long stride, long rows, long width, unit *restrict y, long ld) {
    for (long j = 0; j < (rows + PAIR - 1) / PAIR; j++) {
        const real *row = x + PAIR * j * stride;
        unit *out = y + j * ld;
#ifdef BF16
        if (2 * j + 1 < rows)
            for (long d = 0; d < width; d++) out[d] = row[d] | (uint32_t)row[stride + d] << 16;
        else
#endif
            for (long d = 0; d < width; d++) out[d] = row[d];
        for (long d = width; d < ld; d++) out[d] = 0;
    }
}

typedef struct {
    const real *qkv; /* (N, H + 2G, K): queries, keys, values */
    const float *q_weight, *k_weight, *cosine, *sine;
    const int32_t *segments; /* (segments, 2), rising: first token, length */
    long num_segments, num_tokens, heads, groups, width;
    float eps;
} Attention;

static inline const real *head(const Attention *a, long token, long index) {
    return a->qkv + (token * (a->heads + 2 * a->groups) + index) * a->width;
}

static long longest(const Attention *a) {
    long length = 0;
    for (long s = 0; s < a->num_segments; s++) length = a->segments[2 * s + 1] > length ? a->segments[2 * s + 1] : length;
    return length;
}

/* Set the rows of y (N, width) that belong to no document, which are padding, to 0. */
static void clear_padding(const Attention *a, real *y, long width) {
    long end = 0;
    for (long s = 0; s <= a->num_segments; s++) {
        long start = s < a->num_segments ? a->segments[2 * s] : a->num_tokens;
        memset(y + end * width, 0, (start - end) * width * sizeof(real));
        end = s < a->num_segments ? start + a->segments[2 * s + 1] : end;
    }
}

/* Room for `count` numbers of a size, from a thread's own memory. */
static void *take(char **memory, long count, long size) {
    void *start = *memory;
    *memory += round_up(count * size, 64);
    return start;
}

/* A task is one document and one key/value head with the query heads that share it. `most` is the longest document's
 * length, rounded up to a multiple of ROWS. */
static long forward_bytes(long K, long most) { /* no less than the next function takes */
    return 4 * (most * (2 * K + round_up(K, LANES)) + ROWS * (2 * most + K + round_up(K, LANES))) + 1024;
}

static inline __attribute__((always_inline)) void forward(const Attention *a, const long K, long task, long most,
                                                          char *memory, real *out, float *logsums) {
    const long units = K / PAIR, ld_k = round_up(K, LANES), shared = a->heads / a->groups;
    const float scale = 1 / sqrtf(K);
    real *keys = take(&memory, most * K, sizeof(real));
    unit *keys_across = take(&memory, units * most, sizeof(unit));
    unit *value_units = take(&memory, most / PAIR * ld_k, sizeof(unit));
    real *queries = take(&memory, ROWS * K, sizeof(real));
    float *scores = take(&memory, ROWS * most, sizeof(float));
    real *shares = take(&memory, ROWS * most, sizeof(real));
    float *mixed = take(&memory, ROWS * ld_k, sizeof(float));
    long start = a->segments[task / a->groups * 2], length = a->segments[task / a->groups * 2 + 1];
    long group = task % a->groups, ld = round_up(length, LANES);
    for (long j = 0; j < length; j++)
        turn(head(a, start + j, a->heads + group), a->k_weight, a->eps, a->cosine + j * (K / 2),
             a->sine + j * (K / 2), K, 1, keys + j * K);
    transpose((unit *)keys, length, units, keys_across, ld);
    interleave(head(a, start, a->heads + a->groups + group), (a->heads + 2 * a->groups) * K, length, K,
               value_units, ld_k);
    for (long h = group * shared; h < (group + 1) * shared; h++)
        for (long first = 0; first < length; first += ROWS) {
            long rows = smaller(ROWS, length - first), seen = first + rows;
            for (long i = 0; i < rows; i++)
                turn(head(a, start + first + i, h), a->q_weight, a->eps, a->cosine + (first + i) * (K / 2),
                     a->sine + (first + i) * (K / 2), K, scale, queries + i * K);
            /* Four queries at a time, which need no keys behind the last of them. */
            for (long i = 0; i < rows; i += 4)
                multiply(4, round_up(smaller(first + i + 4, ld), LANES) / LANES, units,
                         (unit *)queries + i * units, units, keys_across, ld, scores + i * most, most, 0);
            float inverse[ROWS];
            for (long i = 0; i < rows; i++) {
                const float *restrict row = scores + i * most;
                real *restrict share = shares + i * most;
                long allowed = first + i + 1, end = first + (i & ~3l) + 4;
                float top = largest(row, allowed), sum = 0;
#pragma omp simd reduction(+ : sum)
                for (long j = 0; j < allowed; j++) {
                    float e = exponential(row[j] - top);
                    sum += e;
                    share[j] = narrow(e);
                }
                for (long j = allowed; j < end; j++) share[j] = 0;
                inverse[i] = 1 / sum;
                logsums[(start + first + i) * a->heads + h] = top + logf(sum);
            }
            for (long i = 0; i < rows; i += 4) {
                long end = smaller(first + i + 4, seen);
                multiply(4, ld_k / LANES, (end + PAIR - 1) / PAIR, (unit *)(shares + i * most), most / PAIR,
                         value_units, ld_k, mixed + i * ld_k, ld_k, 0);
            }
            for (long i = 0; i < rows; i++) {
                real *restrict y = out + ((start + first + i) * a->heads + h) * K;
                for (long d = 0; d < K; d++) y[d] = narrow(mixed[i * ld_k + d] * inverse[i]);
            }
        }
}

/* Scores stand across here, keys (rows) by queries (columns): so the units that each product wants lie side by side. */
static long backward_bytes(long K, long most) {
    long K4 = round_up(K, 4), ld_k = round_up(K, LANES);
    return 4 * (most * (3 * K4 + 2 * ld_k + 4 * ROWS) + ROWS * (5 * K4 + 2 * ld_k)) + 2048;
}

/* Adds to `sums` (2, K) the gradients of the weights of queries and keys. */
static inline __attribute__((always_inline)) void backward(const Attention *a, const long K, long task, long most,
                                                           char *memory, const real *dout, const float *logsums,
                                                           real *dqkv, float *sums) {
    const long units = K / PAIR, K4 = round_up(K, 4), ld_k = round_up(K, LANES), shared = a->heads / a->groups;
    const long stride = (a->heads + 2 * a->groups) * K;
    const float scale = 1 / sqrtf(K);
    real *keys = take(&memory, most * K, sizeof(real)), *values = take(&memory, most * K, sizeof(real));
    unit *keys_across = take(&memory, K4 * most / PAIR, sizeof(unit)); /* (K, most / PAIR), units of keys */
    float *dkeys = take(&memory, most * ld_k, sizeof(float)), *dvalues = take(&memory, most * ld_k, sizeof(float));
    float *shares = take(&memory, most * ROWS, sizeof(float)), *dshares = take(&memory, most * ROWS, sizeof(float));
#ifdef BF16
    real *rounded_shares = take(&memory, most * ROWS, sizeof(real));
    real *dscores = take(&memory, most * ROWS, sizeof(real));
    unit *dscore_units = take(&memory, most / PAIR * ROWS, sizeof(unit));
#else /* nothing is rounded: each takes the place of what it is made from */
    real *rounded_shares = shares, *dscores = dshares;
    unit *dscore_units = dscores;
#endif
    real *queries = take(&memory, ROWS * K, sizeof(real)), *grads = take(&memory, ROWS * K, sizeof(real));
    unit *queries_across = take(&memory, units * ROWS, sizeof(unit));
    unit *grads_across = take(&memory, units * ROWS, sizeof(unit));
    unit *query_units = take(&memory, ROWS / PAIR * ld_k, sizeof(unit));
    unit *grad_units = take(&memory, ROWS / PAIR * ld_k, sizeof(unit));
    float *dqueries = take(&memory, K4 * ROWS, sizeof(float));
    long start = a->segments[task / a->groups * 2], length = a->segments[task / a->groups * 2 + 1];
    long group = task % a->groups, padded = round_up(length, 4);
    for (long j = 0; j < length; j++) {
        turn(head(a, start + j, a->heads + group), a->k_weight, a->eps, a->cosine + j * (K / 2),
             a->sine + j * (K / 2), K, 1, keys + j * K);
        memcpy(values + j * K, head(a, start + j, a->heads + a->groups + group), K * sizeof(real));
    }
    memset(keys + length * K, 0, (padded - length) * K * sizeof(real));
    memset(values + length * K, 0, (padded - length) * K * sizeof(real));
    for (long d = 0; d < K; d++)
        for (long j = 0; j < padded / PAIR; j++) {
            const real *pair = keys + PAIR * j * K + d;
#ifdef BF16
            keys_across[d * (most / PAIR) + j] = pair[0] | (uint32_t)pair[K] << 16;
#else
            keys_across[d * most + j] = pair[0];
#endif
        }
    memset(dkeys, 0, padded * ld_k * sizeof(float));
    memset(dvalues, 0, padded * ld_k * sizeof(float));
    for (long h = group * shared; h < (group + 1) * shared; h++)
        for (long first = 0; first < length; first += ROWS) {
            long rows = smaller(ROWS, length - first), seen = first + rows;
            long keys4 = round_up(seen, 4), columns = round_up(rows, LANES) / LANES, width = columns * LANES;
            float logsum[ROWS], dots[ROWS];
            for (long i = 0; i < rows; i++) {
                long token = start + first + i;
                turn(head(a, token, h), a->q_weight, a->eps, a->cosine + (first + i) * (K / 2),
                     a->sine + (first + i) * (K / 2), K, scale, queries + i * K);
                memcpy(grads + i * K, dout + (token * a->heads + h) * K, K * sizeof(real));
                logsum[i] = logsums[token * a->heads + h];
            }
            transpose((unit *)queries, rows, units, queries_across, ROWS);
            transpose((unit *)grads, rows, units, grads_across, ROWS);
            interleave(queries, K, rows, K, query_units, ld_k);
            interleave(grads, K, rows, K, grad_units, ld_k);
            /* Four keys at a time, which no query before the first of them sees. */
            for (long j = 0; j < keys4; j += 4) {
                long skip = j < first ? 0 : (j - first) / LANES * LANES;
                multiply(4, columns - skip / LANES, units, (unit *)(keys + j * K), units,
                         queries_across + skip, ROWS, shares + j * ROWS + skip, ROWS, 0);
                multiply(4, columns - skip / LANES, units, (unit *)(values + j * K), units,
                         grads_across + skip, ROWS, dshares + j * ROWS + skip, ROWS, 0);
            }
            memset(dots, 0, sizeof dots);
            for (long j = 0; j < keys4; j++) { /* queries from `begin` on see key j */
                long begin = j < first ? 0 : smaller(j - first, rows);
                float *restrict share = shares + j * ROWS;
                const float *restrict dshare = dshares + j * ROWS;
                for (long c = 0; c < begin; c++) share[c] = 0;
                for (long c = rows; c < width; c++) share[c] = 0;
                for (long c = begin; c < rows; c++) {
                    share[c] = exponential(share[c] - logsum[c]);
                    dots[c] += share[c] * dshare[c];
                }
            }
            for (long j = 0; j < keys4; j++) {
                long begin = j < first ? 0 : smaller(j - first, rows);
                const float *share = shares + j * ROWS, *dshare = dshares + j * ROWS;
                real *rounded = rounded_shares + j * ROWS, *dscore = dscores + j * ROWS;
#ifdef BF16
                for (long c = 0; c < width; c++) rounded[c] = narrow(share[c]);
#else
                (void)rounded;
#endif
                for (long c = begin; c < rows; c++) dscore[c] = narrow(share[c] * (dshare[c] - dots[c]));
                for (long c = 0; c < begin; c++) dscore[c] = 0;
                for (long c = rows; c < width; c++) dscore[c] = 0;
            }
            if (PAIR > 1) interleave(dscores, ROWS, keys4, width, dscore_units, ROWS);
            for (long j = 0; j < keys4; j += 4) {
                long skip = j < first ? 0 : (j - first) / LANES * LANES / PAIR;
                long inner = (rows + PAIR - 1) / PAIR - skip;
                multiply(4, ld_k / LANES, inner, (unit *)(rounded_shares + j * ROWS) + skip, ROWS / PAIR,
                         grad_units + skip * ld_k, ld_k, dvalues + j * ld_k, ld_k, 1);
                multiply(4, ld_k / LANES, inner, (unit *)(dscores + j * ROWS) + skip, ROWS / PAIR,
                         query_units + skip * ld_k, ld_k, dkeys + j * ld_k, ld_k, 1);
            }
            multiply(K4, columns, keys4 / PAIR, keys_across, most / PAIR, dscore_units, ROWS,
                     dqueries, ROWS, 0);
            for (long i = 0; i < rows; i++) {
                long token = start + first + i;
                float dquery[K];
                for (long d = 0; d < K; d++) dquery[d] = dqueries[d * ROWS + i];
                turn_back(dquery, head(a, token, h), a->q_weight, a->eps, a->cosine + (first + i) * (K / 2),
                          a->sine + (first + i) * (K / 2), K, scale, dqkv + token * stride + h * K, sums);
            }
        }
    for (long j = 0; j < length; j++) {
        real *row = dqkv + (start + j) * stride + (a->heads + group) * K;
        turn_back(dkeys + j * ld_k, head(a, start + j, a->heads + group), a->k_weight, a->eps,
                  a->cosine + j * (K / 2), a->sine + j * (K / 2), K, 1, row, sums + K);
        for (long d = 0; d < K; d++) row[a->groups * K + d] = narrow(dvalues[j * ld_k + d]);
    }
}

#define WIDTHS(call) /* those of known models as constants, for which loops are unrolled */ \
    switch (a->width) {                                                                     \
    case 32: call(32); break;                                                               \
    case 64: call(64); break;                                                               \
    case 96: call(96); break;                                                               \
    default: call(a->width);                                                                \
    }

static char *zeros(long bytes) { return memset(aligned_alloc(64, round_up(bytes, 64)), 0, bytes); }

void attention_forward(const Attention *a, real *out, float *logsums) {
    const long most = round_up(longest(a), ROWS);
    clear_padding(a, out, a->heads * a->width);
#pragma omp parallel
    {
        char *memory = zeros(forward_bytes(a->width, most));
#pragma omp for schedule(dynamic)
        for (long task = 0; task < a->num_segments * a->groups; task++) {
#define FORWARD(K) forward(a, K, task, most, memory, out, logsums)
            WIDTHS(FORWARD)
        }
        free(memory);
    }
}

void attention_backward(const Attention *a, const real *dout, const float *logsums, real *dqkv, float *dq_weight,
                        float *dk_weight) {
    const long most = round_up(longest(a), ROWS), tasks = a->num_segments * a->groups, K = a->width;
    float *sums = calloc(tasks * 2 * K, sizeof(float)); /* of each task */
    clear_padding(a, dqkv, (a->heads + 2 * a->groups) * K);
#pragma omp parallel
    {
        char *memory = zeros(backward_bytes(K, most));
#pragma omp for schedule(dynamic)
        for (long task = 0; task < tasks; task++) {
#define BACKWARD(K) backward(a, K, task, most, memory, dout, logsums, dqkv, sums + task * 2 * a->width)
            WIDTHS(BACKWARD)
        }
        free(memory);
    }
    if (dq_weight)
        for (long task = 0; task < tasks; task++)
            for (long d = 0; d < K; d++) {
                dq_weight[d] += sums[task * 2 * K + d];
                dk_weight[d] += sums[task * 2 * K + K + d];
            }
    free(sums);
}
