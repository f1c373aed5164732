/* What lies between the matrix products of a decoder's training step, each in one pass over memory.
 *
 * For CPUs that multiply bfloat16 (AVX512-BF16). `cpu.py` compiles this file, and says what each function computes;
 * `model.py` and `losses.py` hold the plain PyTorch that it stands in for, and tests/kernels/test_cpu.py holds the two
 * together. Activations are bfloat16, arithmetic is fp32. Work is split into pieces that do not depend on the number
 * of threads, and sums are taken in a fixed order, so results do not either.
 *
 * N tokens, D width, V vocabulary, H query heads, G key/value heads, K head width, L length of a document.
 */

#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;

#define CHUNKS 64 /* pieces of a sum over tokens */

static inline float load(bf16 x) {
    union { uint32_t u; float f; } v = {(uint32_t)x << 16};
    return v.f;
}

/* Round to nearest, ties to even; not-a-number stays one. */
static inline bf16 store(float x) {
    union { float f; uint32_t u; } v = {x};
    uint32_t rounded = (v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16;
    return (v.u & 0x7fffffff) > 0x7f800000 ? (bf16)((v.u >> 16) | 64) : (bf16)rounded;
}

/* e^x to about two units in the last place, in a form that compilers turn into vector code. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504f, n = __builtin_rintf(t);
    float f = __builtin_fmaf(n, -0.693145751953125f, x);
    f = __builtin_fmaf(n, -1.42860677e-6f, f);
    float p = 1.0f / 720;
    p = __builtin_fmaf(p, f, 1.0f / 120);
    p = __builtin_fmaf(p, f, 1.0f / 24);
    p = __builtin_fmaf(p, f, 1.0f / 6);
    p = __builtin_fmaf(p, f, 0.5f);
    p = __builtin_fmaf(p, f, 1.0f);
    p = __builtin_fmaf(p, f, 1.0f);
    union { int32_t i; float f; } scale = {((int32_t)n + 127) << 23};
    return p * scale.f;
}

static inline long chunk_start(long chunk, long n) { return chunk * n / CHUNKS; }

/* Add up `partial` (CHUNKS, width) in order. */
static void add_chunks(const float *partial, long width, float *sum) {
    memset(sum, 0, width * sizeof(float));
    for (long chunk = 0; chunk < CHUNKS; chunk++)
        for (long d = 0; d < width; d++) sum[d] += partial[chunk * width + d];
}

/* ---- RMSNorm of a residual stream ------------------------------------------------------------------------------ */

void norm_forward(const bf16 *x, const bf16 *branch, const float *weight, float eps, long n, long width, bf16 *sum,
                  bf16 *y, float *scales) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const bf16 *source = x + i * width;
        if (branch) {
            for (long d = 0; d < width; d++)
                sum[i * width + d] = store(load(source[d]) + load(branch[i * width + d]));
            source = sum + i * width;
        }
        float squares = 0;
        for (long d = 0; d < width; d++) squares += load(source[d]) * load(source[d]);
        float scale = 1 / sqrtf(squares / width + eps);
        for (long d = 0; d < width; d++) y[i * width + d] = store(load(source[d]) * scale * weight[d]);
        scales[i] = scale;
    }
}

void norm_backward(const bf16 *dy, const bf16 *dsum, const bf16 *x, const float *scales, const float *weight, long n,
                   long width, bf16 *dx, float *dweight) {
    float *partial = calloc(CHUNKS * width, sizeof(float));
#pragma omp parallel for schedule(static)
    for (long chunk = 0; chunk < CHUNKS; chunk++) {
        float *sums = partial + chunk * width;
        for (long i = chunk_start(chunk, n); i < chunk_start(chunk + 1, n); i++) {
            const bf16 *g = dy + i * width, *in = x + i * width;
            float scale = scales[i], dot = 0;
            for (long d = 0; d < width; d++) dot += load(g[d]) * weight[d] * load(in[d]);
            dot *= scale * scale / width;
            for (long d = 0; d < width; d++) {
                sums[d] += load(g[d]) * load(in[d]) * scale;
                float value = scale * (load(g[d]) * weight[d] - load(in[d]) * dot);
                dx[i * width + d] = store(dsum ? value + load(dsum[i * width + d]) : value);
            }
        }
    }
    add_chunks(partial, width, dweight);
    free(partial);
}

/* ---- SwiGLU ---------------------------------------------------------------------------------------------------- */

void swiglu_forward(const bf16 *gate_up, long n, long width, bf16 *y) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const bf16 *gate = gate_up + 2 * i * width, *up = gate + width;
        for (long d = 0; d < width; d++) {
            float g = load(gate[d]);
            y[i * width + d] = store(g / (1 + exponential(-g)) * load(up[d]));
        }
    }
}

void swiglu_backward(const bf16 *dy, const bf16 *gate_up, long n, long width, bf16 *dgate_up) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const bf16 *gate = gate_up + 2 * i * width, *up = gate + width;
        bf16 *dgate = dgate_up + 2 * i * width, *dup = dgate + width;
        for (long d = 0; d < width; d++) {
            float g = load(gate[d]), grad = load(dy[i * width + d]), sigmoid = 1 / (1 + exponential(-g));
            dgate[d] = store(grad * load(up[d]) * sigmoid * (1 + g * (1 - sigmoid)));
            dup[d] = store(grad * g * sigmoid);
        }
    }
}

/* ---- Cross-entropy --------------------------------------------------------------------------------------------- */

void cross_entropy(bf16 *logits, const int64_t *targets, long n, long vocabulary, float *losses) {
#pragma omp parallel
    {
        float *exponentials = malloc(vocabulary * sizeof(float));
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++) {
            bf16 *row = logits + i * vocabulary;
            float top = -INFINITY, sum = 0, right = load(row[targets[i]]);
            for (long v = 0; v < vocabulary; v++) {
                float value = load(row[v]);
                top = value > top ? value : top;
            }
            for (long v = 0; v < vocabulary; v++) {
                exponentials[v] = exponential(load(row[v]) - top);
                sum += exponentials[v];
            }
            losses[i] = logf(sum) + top - right;
            for (long v = 0; v < vocabulary; v++) row[v] = store(exponentials[v] / sum);
            row[targets[i]] = store(exponentials[targets[i]] / sum - 1);
        }
        free(exponentials);
    }
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

#define ROWS 64 /* queries that attend side by side */
#define LANES 16

static inline long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }

static inline void narrow(bf16 *y, __m512 x) { _mm256_storeu_si256((__m256i *)y, (__m256i)_mm512_cvtneps_pbh(x)); }

static inline __m512 exponential_of(__m512 x) {
    float in[LANES], out[LANES];
    _mm512_storeu_ps(in, x);
    for (int lane = 0; lane < LANES; lane++) out[lane] = exponential(in[lane]);
    return _mm512_loadu_ps(out);
}

/* The lanes of a vector that holds the columns from `column` on which lie in [first, end). */
static inline __mmask16 lanes(long column, long first, long end) {
    long from = first - column, to = end - column;
    from = from < 0 ? 0 : from > LANES ? LANES : from;
    to = to < 0 ? 0 : to > LANES ? LANES : to;
    return (__mmask16)((1u << to) - 1) & (__mmask16) ~((1u << from) - 1);
}

/* C (M, 16 · columns) = or += A (M, inner) · B (inner, 16 · columns), M a multiple of 4. An element of A or B is a
 * pair of bf16, neighbours along the inner axis, as the instruction wants them. */
static inline __attribute__((always_inline)) void tile(const int columns, long inner, const uint32_t *a, long lda,
                                                       const uint32_t *b, long ldb, float *c, long ldc, int add) {
    __m512 sum[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < columns; j++)
            sum[i][j] = add ? _mm512_loadu_ps(c + i * ldc + LANES * j) : _mm512_setzero_ps();
    for (long k = 0; k < inner; k++) {
        __m512i right[4];
        for (int j = 0; j < columns; j++) right[j] = _mm512_loadu_si512(b + k * ldb + LANES * j);
        for (int i = 0; i < 4; i++) {
            __m512i left = _mm512_set1_epi32((int)a[i * lda + k]);
            for (int j = 0; j < columns; j++)
                sum[i][j] = _mm512_dpbf16_ps(sum[i][j], (__m512bh)left, (__m512bh)right[j]);
        }
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < columns; j++) _mm512_storeu_ps(c + i * ldc + LANES * j, sum[i][j]);
}

static void multiply(long m, long columns, long inner, const uint32_t *a, long lda, const uint32_t *b, long ldb,
                     float *c, long ldc, int add) {
    for (long j = 0; j < columns; j += 4)
        for (long i = 0; i < m; i += 4) {
            const uint32_t *left = a + i * lda, *right = b + LANES * j;
            float *out = c + i * ldc + LANES * j;
            switch (columns - j) {
            case 1: tile(1, inner, left, lda, right, ldb, out, ldc, add); break;
            case 2: tile(2, inner, left, lda, right, ldb, out, ldc, add); break;
            case 3: tile(3, inner, left, lda, right, ldb, out, ldc, add); break;
            default: tile(4, inner, left, lda, right, ldb, out, ldc, add);
            }
        }
}

/* One head of one token: normalised (with a weight), turned to its position, scaled. */
static inline __attribute__((always_inline)) void turn(const bf16 *restrict x, const float *restrict weight, float eps,
                                                       const float *restrict cosine, const float *restrict sine,
                                                       const long width, float scale, bf16 *restrict y) {
    const long half = width / 2;
    float values[width];
    if (weight) {
        float squares = 0;
        for (long d = 0; d < width; d++) squares += load(x[d]) * load(x[d]);
        scale /= sqrtf(squares / width + eps);
        for (long d = 0; d < width; d++) values[d] = load(x[d]) * scale * weight[d];
    } else
        for (long d = 0; d < width; d++) values[d] = load(x[d]) * scale;
    for (long d = 0; d < half; d++) {
        y[d] = store(values[d] * cosine[d] - values[d + half] * sine[d]);
        y[d + half] = store(values[d + half] * cosine[d] + values[d] * sine[d]);
    }
}

/* The gradient of `turn`: from dy, which it overwrites, to x; and to the weight, which it adds up. */
static inline __attribute__((always_inline)) void turn_back(float *restrict dy, const bf16 *restrict x,
                                                            const float *restrict weight, float eps,
                                                            const float *restrict cosine, const float *restrict sine,
                                                            const long width, float scale, bf16 *restrict dx,
                                                            float *restrict dweight) {
    const long half = width / 2;
    for (long d = 0; d < half; d++) {
        float a = dy[d], b = dy[d + half];
        dy[d] = scale * (a * cosine[d] + b * sine[d]);
        dy[d + half] = scale * (b * cosine[d] - a * sine[d]);
    }
    if (!weight) {
        for (long d = 0; d < width; d++) dx[d] = store(dy[d]);
        return;
    }
    float squares = 0, dot = 0;
    for (long d = 0; d < width; d++) {
        squares += load(x[d]) * load(x[d]);
        dot += dy[d] * weight[d] * load(x[d]);
    }
    float inverse = 1 / sqrtf(squares / width + eps);
    dot *= inverse * inverse / width;
    for (long d = 0; d < width; d++) {
        dweight[d] += dy[d] * load(x[d]) * inverse;
        dx[d] = store(inverse * (dy[d] * weight[d] - load(x[d]) * dot));
    }
}

/* x (rows, words) → y (words, ld), zeros from `rows` on. */
static inline void transpose(const uint32_t *restrict x, long rows, long words, uint32_t *restrict y, long ld) {
    for (long w = 0; w < words; w++) {
        for (long j = 0; j < rows; j++) y[w * ld + j] = x[j * words + w];
        for (long j = rows; j < ld; j++) y[w * ld + j] = 0;
    }
}

/* Neighbouring rows in pairs: x (rows, width), with `stride` from row to row → y (ceil(rows / 2), ld), zeros behind. */
static inline void interleave(const bf16 *restrict x, long stride, long rows, long width, uint32_t *restrict y,
                              long ld) {
    for (long j = 0; j < (rows + 1) / 2; j++) {
        const bf16 *low = x + 2 * j * stride, *high = low + stride;
        if (2 * j + 1 < rows)
            for (long d = 0; d < width; d++) y[j * ld + d] = low[d] | (uint32_t)high[d] << 16;
        else
            for (long d = 0; d < width; d++) y[j * ld + d] = low[d];
        for (long d = width; d < ld; d++) y[j * ld + d] = 0;
    }
}

typedef struct {
    const bf16 *qkv; /* (N, H + 2G, K): queries, keys, values */
    const float *q_weight, *k_weight, *cosine, *sine;
    const int32_t *segments; /* (segments, 2): first token, length */
    long num_segments, heads, groups, width;
    float eps;
} Attention;

static inline const bf16 *head(const Attention *a, long token, long index) {
    return a->qkv + (token * (a->heads + 2 * a->groups) + index) * a->width;
}

static long longest(const Attention *a) {
    long length = 0;
    for (long s = 0; s < a->num_segments; s++) length = a->segments[2 * s + 1] > length ? a->segments[2 * s + 1] : length;
    return length;
}

static void *take(char **scratch, long bytes) {
    void *start = *scratch;
    *scratch += round_up(bytes, 64);
    return start;
}

/* A task is one document and one key/value head with the query heads that share it. K is a constant where that pays. */
static inline __attribute__((always_inline)) void forward(const Attention *a, const long K, bf16 *out, float *logsums) {
    const long words = K / 2, ld_k = round_up(K, LANES), shared = a->heads / a->groups;
    long most = round_up(longest(a), ROWS);
    float scale = 1 / sqrtf(K);
#pragma omp parallel
    {
        char *memory = aligned_alloc(64, round_up(most * (4 * K + 2 * ld_k) + ROWS * (6 * most + 2 * K + 4 * ld_k), 64) + 1024);
        char *rest = memory;
        bf16 *keys = take(&rest, most * K * 2);
        uint32_t *keys_across = take(&rest, words * most * 4);
        uint32_t *value_pairs = take(&rest, most / 2 * ld_k * 4);
        bf16 *queries = take(&rest, ROWS * K * 2);
        float *scores = take(&rest, ROWS * most * 4);
        bf16 *shares = take(&rest, ROWS * most * 2);
        float *mixed = take(&rest, ROWS * ld_k * 4);
        memset(queries, 0, ROWS * K * 2);
        memset(shares, 0, ROWS * most * 2);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < a->num_segments * a->groups; task++) {
            long start = a->segments[task / a->groups * 2], length = a->segments[task / a->groups * 2 + 1];
            long group = task % a->groups, ld = round_up(length, LANES);
            for (long j = 0; j < length; j++)
                turn(head(a, start + j, a->heads + group), a->k_weight, a->eps, a->cosine + j * words,
                     a->sine + j * words, K, 1, keys + j * K);
            transpose((uint32_t *)keys, length, words, keys_across, ld);
            interleave(head(a, start, a->heads + a->groups + group), (a->heads + 2 * a->groups) * K, length, K,
                       value_pairs, ld_k);
            for (long h = group * shared; h < (group + 1) * shared; h++)
                for (long first = 0; first < length; first += ROWS) {
                    long rows = length - first < ROWS ? length - first : ROWS, seen = first + rows;
                    for (long i = 0; i < rows; i++)
                        turn(head(a, start + first + i, h), a->q_weight, a->eps, a->cosine + (first + i) * words,
                             a->sine + (first + i) * words, K, scale, queries + i * K);
                    /* Four queries at a time, which need no keys behind the last of them. */
                    for (long i = 0; i < rows; i += 4)
                        multiply(4, round_up(first + i + 4 < ld ? first + i + 4 : ld, LANES) / LANES, words,
                                 (uint32_t *)queries + i * words, words, keys_across, ld, scores + i * most, most, 0);
                    float sums[ROWS];
                    for (long i = 0; i < rows; i++) {
                        float *row = scores + i * most;
                        long allowed = first + i + 1, end = first + (i & ~3l) + 4;
                        __m512 tops = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
                        for (long j = 0; j < allowed; j += LANES)
                            tops = _mm512_mask_max_ps(tops, lanes(j, 0, allowed), tops, _mm512_loadu_ps(row + j));
                        float top = _mm512_reduce_max_ps(tops);
                        for (long j = 0; j < end; j += LANES) {
                            __m512 e = exponential_of(_mm512_sub_ps(_mm512_loadu_ps(row + j), _mm512_set1_ps(top)));
                            e = _mm512_maskz_mov_ps(lanes(j, 0, allowed), e);
                            total = _mm512_add_ps(total, e);
                            narrow(shares + i * most + j, e);
                        }
                        sums[i] = _mm512_reduce_add_ps(total);
                        logsums[(start + first + i) * a->heads + h] = top + logf(sums[i]);
                    }
                    for (long i = 0; i < rows; i += 4) {
                        long end = first + i + 4 < seen ? first + i + 4 : seen;
                        multiply(4, ld_k / LANES, (end + 1) / 2, (uint32_t *)(shares + i * most), most / 2, value_pairs,
                                 ld_k, mixed + i * ld_k, ld_k, 0);
                    }
                    for (long i = 0; i < rows; i++) {
                        float share = 1 / sums[i];
                        bf16 *y = out + ((start + first + i) * a->heads + h) * K;
                        for (long d = 0; d < K; d++) y[d] = store(mixed[i * ld_k + d] * share);
                    }
                }
        }
        free(memory);
    }
}

/* Scores stand across here, keys (rows) by queries (columns): so the pairs that each product wants lie side by side. */
static inline __attribute__((always_inline)) void backward(const Attention *a, const long K, const bf16 *dout,
                                                           const float *logsums, bf16 *dqkv, float *dq_weight,
                                                           float *dk_weight) {
    const long words = K / 2, ld_k = round_up(K, LANES), shared = a->heads / a->groups;
    long most = round_up(longest(a), ROWS), stride = (a->heads + 2 * a->groups) * K;
    long tasks = a->num_segments * a->groups;
    float scale = 1 / sqrtf(K);
    float *partial = calloc(tasks * 2 * K, sizeof(float)); /* of each task: dq_weight, dk_weight */
#pragma omp parallel
    {
        char *memory = aligned_alloc(64, round_up(most * (6 * K + 8 * ld_k + 16 * ROWS) + ROWS * (12 * K + 8 * ld_k), 64) + 1024);
        char *rest = memory;
        bf16 *keys = take(&rest, most * K * 2), *values = take(&rest, most * K * 2);
        uint32_t *keys_across = take(&rest, K * most / 2 * 4); /* (K, most / 2), pairs of keys */
        float *dkeys = take(&rest, most * ld_k * 4), *dvalues = take(&rest, most * ld_k * 4);
        float *shares = take(&rest, most * ROWS * 4), *dshares = take(&rest, most * ROWS * 4);
        bf16 *shares16 = take(&rest, most * ROWS * 2), *dscores16 = take(&rest, most * ROWS * 2);
        uint32_t *dscore_pairs = take(&rest, most / 2 * ROWS * 4);
        bf16 *queries = take(&rest, ROWS * K * 2), *grads = take(&rest, ROWS * K * 2);
        uint32_t *queries_across = take(&rest, words * ROWS * 4), *grads_across = take(&rest, words * ROWS * 4);
        uint32_t *query_pairs = take(&rest, ROWS / 2 * ld_k * 4), *grad_pairs = take(&rest, ROWS / 2 * ld_k * 4);
        float *dqueries = take(&rest, K * ROWS * 4);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < tasks; task++) {
            long start = a->segments[task / a->groups * 2], length = a->segments[task / a->groups * 2 + 1];
            long group = task % a->groups, padded = round_up(length, 4);
            float *dq_sum = partial + task * 2 * K, *dk_sum = dq_sum + K;
            for (long j = 0; j < length; j++) {
                turn(head(a, start + j, a->heads + group), a->k_weight, a->eps, a->cosine + j * words,
                     a->sine + j * words, K, 1, keys + j * K);
                memcpy(values + j * K, head(a, start + j, a->heads + a->groups + group), K * 2);
            }
            memset(keys + length * K, 0, (padded - length) * K * 2);
            memset(values + length * K, 0, (padded - length) * K * 2);
            for (long d = 0; d < K; d++)
                for (long j = 0; j < padded / 2; j++)
                    keys_across[d * (most / 2) + j] = keys[2 * j * K + d] | (uint32_t)keys[(2 * j + 1) * K + d] << 16;
            memset(dkeys, 0, padded * ld_k * 4);
            memset(dvalues, 0, padded * ld_k * 4);
            for (long h = group * shared; h < (group + 1) * shared; h++)
                for (long first = 0; first < length; first += ROWS) {
                    long rows = length - first < ROWS ? length - first : ROWS, seen = first + rows;
                    long keys4 = round_up(seen, 4), columns = round_up(rows, LANES) / LANES;
                    float logsum[ROWS];
                    for (long i = 0; i < rows; i++) {
                        long token = start + first + i;
                        turn(head(a, token, h), a->q_weight, a->eps, a->cosine + (first + i) * words,
                             a->sine + (first + i) * words, K, scale, queries + i * K);
                        memcpy(grads + i * K, dout + (token * a->heads + h) * K, K * 2);
                        logsum[i] = logsums[token * a->heads + h];
                    }
                    for (long i = rows; i < ROWS; i++) logsum[i] = 0;
                    transpose((uint32_t *)queries, rows, words, queries_across, ROWS);
                    transpose((uint32_t *)grads, rows, words, grads_across, ROWS);
                    interleave(queries, K, rows, K, query_pairs, ld_k);
                    interleave(grads, K, rows, K, grad_pairs, ld_k);
                    /* Four keys at a time, which no query before the first of them sees. */
                    for (long j = 0; j < keys4; j += 4) {
                        long skip = j < first ? 0 : (j - first) / LANES * LANES;
                        multiply(4, columns - skip / LANES, words, (uint32_t *)(keys + j * K), words,
                                 queries_across + skip, ROWS, shares + j * ROWS + skip, ROWS, 0);
                        multiply(4, columns - skip / LANES, words, (uint32_t *)(values + j * K), words,
                                 grads_across + skip, ROWS, dshares + j * ROWS + skip, ROWS, 0);
                    }
                    for (long column = 0; column < columns * LANES; column += LANES) {
                        __m512 sums = _mm512_loadu_ps(logsum + column), dots = _mm512_setzero_ps();
                        long last = first + column + LANES < keys4 ? first + column + LANES : keys4;
                        for (long j = 0; j < last; j++) {
                            float *share = shares + j * ROWS + column;
                            __mmask16 seeing = lanes(column, j - first, rows);
                            __m512 p = exponential_of(_mm512_sub_ps(_mm512_loadu_ps(share), sums));
                            p = _mm512_maskz_mov_ps(seeing, p);
                            dots = _mm512_fmadd_ps(p, _mm512_loadu_ps(dshares + j * ROWS + column), dots);
                            _mm512_storeu_ps(share, p);
                            narrow(shares16 + j * ROWS + column, p);
                        }
                        for (long j = last; j < keys4; j++)
                            narrow(dscores16 + j * ROWS + column, _mm512_setzero_ps());
                        for (long j = 0; j < last; j++) {
                            __m512 p = _mm512_loadu_ps(shares + j * ROWS + column);
                            __m512 d = _mm512_sub_ps(_mm512_loadu_ps(dshares + j * ROWS + column), dots);
                            narrow(dscores16 + j * ROWS + column, _mm512_mul_ps(p, d));
                        }
                    }
                    interleave(dscores16, ROWS, keys4, columns * LANES, dscore_pairs, ROWS);
                    for (long j = 0; j < keys4; j += 4) {
                        long skip = j < first ? 0 : (j - first) / LANES * LANES / 2, pairs = (rows + 1) / 2 - skip;
                        multiply(4, ld_k / LANES, pairs, (uint32_t *)(shares16 + j * ROWS) + skip, ROWS / 2,
                                 grad_pairs + skip * ld_k, ld_k, dvalues + j * ld_k, ld_k, 1);
                        multiply(4, ld_k / LANES, pairs, (uint32_t *)(dscores16 + j * ROWS) + skip, ROWS / 2,
                                 query_pairs + skip * ld_k, ld_k, dkeys + j * ld_k, ld_k, 1);
                    }
                    multiply(K, columns, keys4 / 2, keys_across, most / 2, dscore_pairs, ROWS, dqueries, ROWS, 0);
                    for (long i = 0; i < rows; i++) {
                        long token = start + first + i;
                        float dquery[K];
                        for (long d = 0; d < K; d++) dquery[d] = dqueries[d * ROWS + i];
                        turn_back(dquery, head(a, token, h), a->q_weight, a->eps, a->cosine + (first + i) * words,
                                  a->sine + (first + i) * words, K, scale, dqkv + token * stride + h * K, dq_sum);
                    }
                }
            for (long j = 0; j < length; j++) {
                bf16 *row = dqkv + (start + j) * stride + (a->heads + group) * K;
                turn_back(dkeys + j * ld_k, head(a, start + j, a->heads + group), a->k_weight, a->eps,
                          a->cosine + j * words, a->sine + j * words, K, 1, row, dk_sum);
                for (long d = 0; d < K; d++) row[a->groups * K + d] = store(dvalues[j * ld_k + d]);
            }
        }
        free(memory);
    }
    if (dq_weight)
        for (long task = 0; task < tasks; task++)
            for (long d = 0; d < K; d++) {
                dq_weight[d] += partial[task * 2 * K + d];
                dk_weight[d] += partial[task * 2 * K + K + d];
            }
    free(partial);
}

void attention_forward(const Attention *a, bf16 *out, float *logsums) {
    switch (a->width) {
    case 32: forward(a, 32, out, logsums); break;
    case 64: forward(a, 64, out, logsums); break;
    case 96: forward(a, 96, out, logsums); break;
    default: forward(a, a->width, out, logsums);
    }
}

void attention_backward(const Attention *a, const bf16 *dout, const float *logsums, bf16 *dqkv, float *dq_weight,
                        float *dk_weight) {
    switch (a->width) {
    case 32: backward(a, 32, dout, logsums, dqkv, dq_weight, dk_weight); break;
    case 64: backward(a, 64, dout, logsums, dqkv, dq_weight, dk_weight); break;
    case 96: backward(a, 96, dout, logsums, dqkv, dq_weight, dk_weight); break;
    default: backward(a, a->width, dout, logsums, dqkv, dq_weight, dk_weight);
    }
}
