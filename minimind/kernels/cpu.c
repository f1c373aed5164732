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

#define LANES 16  /* numbers in a vector */
#define ALL ((__mmask16)~0)
#define CHUNKS 64 /* pieces of a sum over tokens */
#define ROWS 64   /* queries that attend side by side */

static inline long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }

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

/* Sixteen at once, or as many as the mask says; the rest are read as 0 and not written. */
static inline __m512 get(const bf16 *x, __mmask16 mask) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x)), 16));
}

static inline void put(bf16 *y, __mmask16 mask, __m512 x) {
    _mm256_mask_storeu_epi16(y, mask, (__m256i)_mm512_cvtneps_pbh(x));
}

/* The lanes of a vector that holds the columns from `column` on which lie in [first, end). */
static inline __mmask16 lanes(long column, long first, long end) {
    long from = first - column, to = end - column;
    from = from < 0 ? 0 : from > LANES ? LANES : from;
    to = to < 0 ? 0 : to > LANES ? LANES : to;
    return (__mmask16)((1u << to) - 1) & (__mmask16) ~((1u << from) - 1);
}

/* e^x to about two units in the last place: 2^n · e^f with n whole and f small, e^f by its Taylor series. */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104), x); /* in this order not-a-number stays one */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), f);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

/* ---- RMSNorm of a residual stream ------------------------------------------------------------------------------ */

void norm_forward(const bf16 *x, const bf16 *branch, const float *weight, float eps, long n, long width, bf16 *sum,
                  bf16 *y, float *scales) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        const bf16 *source = x + i * width;
        __m512 squares = _mm512_setzero_ps();
        for (long d = 0; d < width; d += LANES) {
            __mmask16 mask = lanes(d, 0, width);
            __m512 value = get(source + d, mask);
            if (branch) {
                put(sum + i * width + d, mask, _mm512_add_ps(value, get(branch + i * width + d, mask)));
                value = get(sum + i * width + d, mask);
            }
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        scales[i] = 1 / sqrtf(_mm512_reduce_add_ps(squares) / width + eps);
        source = branch ? sum + i * width : source;
        __m512 scale = _mm512_set1_ps(scales[i]);
        for (long d = 0; d < width; d += LANES) {
            __mmask16 mask = lanes(d, 0, width);
            __m512 gain = _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(mask, weight + d));
            put(y + i * width + d, mask, _mm512_mul_ps(get(source + d, mask), gain));
        }
    }
}

void norm_backward(const bf16 *dy, const bf16 *dsum, const bf16 *x, const float *scales, const float *weight, long n,
                   long width, bf16 *dx, float *dweight) {
    float *partial = calloc(CHUNKS * width, sizeof(float));
#pragma omp parallel for schedule(static)
    for (long chunk = 0; chunk < CHUNKS; chunk++) {
        float *sums = partial + chunk * width;
        for (long i = chunk * n / CHUNKS; i < (chunk + 1) * n / CHUNKS; i++) {
            const bf16 *gradient = dy + i * width, *in = x + i * width;
            __m512 scale = _mm512_set1_ps(scales[i]), dots = _mm512_setzero_ps();
            for (long d = 0; d < width; d += LANES) {
                __mmask16 mask = lanes(d, 0, width);
                __m512 product = _mm512_mul_ps(get(gradient + d, mask), get(in + d, mask));
                dots = _mm512_fmadd_ps(product, _mm512_maskz_loadu_ps(mask, weight + d), dots);
                __m512 total = _mm512_fmadd_ps(product, scale, _mm512_maskz_loadu_ps(mask, sums + d));
                _mm512_mask_storeu_ps(sums + d, mask, total);
            }
            __m512 dot = _mm512_set1_ps(_mm512_reduce_add_ps(dots) * scales[i] * scales[i] / width);
            for (long d = 0; d < width; d += LANES) {
                __mmask16 mask = lanes(d, 0, width);
                __m512 value = _mm512_mul_ps(get(gradient + d, mask), _mm512_maskz_loadu_ps(mask, weight + d));
                value = _mm512_mul_ps(scale, _mm512_fnmadd_ps(get(in + d, mask), dot, value));
                put(dx + i * width + d, mask, _mm512_add_ps(value, get(dsum + i * width + d, mask)));
            }
        }
    }
    memset(dweight, 0, width * sizeof(float));
    for (long chunk = 0; chunk < CHUNKS; chunk++)
        for (long d = 0; d < width; d++) dweight[d] += partial[chunk * width + d];
    free(partial);
}

/* ---- SwiGLU ---------------------------------------------------------------------------------------------------- */

static inline __m512 sigmoid(__m512 x) {
    __m512 one = _mm512_set1_ps(1);
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

void swiglu_forward(const bf16 *gate_up, long n, long width, bf16 *y) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++)
        for (long d = 0; d < width; d += LANES) {
            __mmask16 mask = lanes(d, 0, width);
            __m512 gate = get(gate_up + 2 * i * width + d, mask), up = get(gate_up + (2 * i + 1) * width + d, mask);
            put(y + i * width + d, mask, _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(gate)), up));
        }
}

void swiglu_backward(const bf16 *dy, const bf16 *gate_up, long n, long width, bf16 *dgate_up) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++)
        for (long d = 0; d < width; d += LANES) {
            __mmask16 mask = lanes(d, 0, width);
            __m512 gate = get(gate_up + 2 * i * width + d, mask), up = get(gate_up + (2 * i + 1) * width + d, mask);
            __m512 gradient = get(dy + i * width + d, mask), s = sigmoid(gate), silu = _mm512_mul_ps(gate, s);
            /* silu' = s + silu (1 - s) */
            __m512 slope = _mm512_add_ps(s, _mm512_fnmadd_ps(silu, s, silu));
            put(dgate_up + 2 * i * width + d, mask, _mm512_mul_ps(_mm512_mul_ps(gradient, up), slope));
            put(dgate_up + (2 * i + 1) * width + d, mask, _mm512_mul_ps(gradient, silu));
        }
}

/* ---- Cross-entropy --------------------------------------------------------------------------------------------- */

void cross_entropy(bf16 *logits, const int64_t *targets, long n, long vocabulary, float *losses) {
#pragma omp parallel
    {
        float *exponentials = aligned_alloc(64, round_up(vocabulary, LANES) * sizeof(float));
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++) {
            bf16 *row = logits + i * vocabulary;
            float right = load(row[targets[i]]);
            __m512 tops = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
            for (long v = 0; v < vocabulary; v += LANES) {
                __mmask16 mask = lanes(v, 0, vocabulary);
                __m512 value = get(row + v, mask);
                tops = _mm512_mask_max_ps(tops, mask, tops, value);
                sums = _mm512_mask_add_ps(sums, mask, sums, value);
            }
            /* The largest of a row that holds not-a-number may leave it out; the sum never does. */
            float check = _mm512_reduce_add_ps(sums), top = isnan(check) ? check : _mm512_reduce_max_ps(tops);
            sums = _mm512_setzero_ps();
            for (long v = 0; v < vocabulary; v += LANES) {
                __mmask16 mask = lanes(v, 0, vocabulary);
                __m512 e = exponential(_mm512_sub_ps(get(row + v, mask), _mm512_set1_ps(top)));
                e = _mm512_maskz_mov_ps(mask, e);
                _mm512_store_ps(exponentials + v, e);
                sums = _mm512_add_ps(sums, e);
            }
            float sum = _mm512_reduce_add_ps(sums);
            losses[i] = logf(sum) + top - right;
            __m512 share = _mm512_set1_ps(1 / sum);
            for (long v = 0; v < vocabulary; v += LANES)
                put(row + v, lanes(v, 0, vocabulary), _mm512_mul_ps(_mm512_load_ps(exponentials + v), share));
            row[targets[i]] = store(exponentials[targets[i]] / sum - 1);
        }
        free(exponentials);
    }
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

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
    const int32_t *segments; /* (segments, 2), rising: first token, length */
    long num_segments, num_tokens, heads, groups, width;
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

/* Set the rows of y (N, width) that belong to no document, which are padding, to 0. */
static void clear_padding(const Attention *a, bf16 *y, long width) {
    long end = 0;
    for (long s = 0; s <= a->num_segments; s++) {
        long start = s < a->num_segments ? a->segments[2 * s] : a->num_tokens;
        memset(y + end * width, 0, (start - end) * width * sizeof(bf16));
        end = s < a->num_segments ? start + a->segments[2 * s + 1] : end;
    }
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
                            __m512 e = exponential(_mm512_sub_ps(_mm512_loadu_ps(row + j), _mm512_set1_ps(top)));
                            e = _mm512_maskz_mov_ps(lanes(j, 0, allowed), e);
                            total = _mm512_add_ps(total, e);
                            put(shares + i * most + j, ALL, e);
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
                            __m512 p = exponential(_mm512_sub_ps(_mm512_loadu_ps(share), sums));
                            p = _mm512_maskz_mov_ps(seeing, p);
                            dots = _mm512_fmadd_ps(p, _mm512_loadu_ps(dshares + j * ROWS + column), dots);
                            _mm512_storeu_ps(share, p);
                            put(shares16 + j * ROWS + column, ALL, p);
                        }
                        for (long j = last; j < keys4; j++)
                            put(dscores16 + j * ROWS + column, ALL, _mm512_setzero_ps());
                        for (long j = 0; j < last; j++) {
                            __m512 p = _mm512_loadu_ps(shares + j * ROWS + column);
                            __m512 d = _mm512_sub_ps(_mm512_loadu_ps(dshares + j * ROWS + column), dots);
                            put(dscores16 + j * ROWS + column, ALL, _mm512_mul_ps(p, d));
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
    clear_padding(a, out, a->heads * a->width);
    switch (a->width) {
    case 32: forward(a, 32, out, logsums); break;
    case 48: forward(a, 48, out, logsums); break;
    case 64: forward(a, 64, out, logsums); break;
    case 96: forward(a, 96, out, logsums); break;
    case 128: forward(a, 128, out, logsums); break;
    default: forward(a, a->width, out, logsums);
    }
}

void attention_backward(const Attention *a, const bf16 *dout, const float *logsums, bf16 *dqkv, float *dq_weight,
                        float *dk_weight) {
    clear_padding(a, dqkv, (a->heads + 2 * a->groups) * a->width);
    switch (a->width) {
    case 32: backward(a, 32, dout, logsums, dqkv, dq_weight, dk_weight); break;
    case 48: backward(a, 48, dout, logsums, dqkv, dq_weight, dk_weight); break;
    case 64: backward(a, 64, dout, logsums, dqkv, dq_weight, dk_weight); break;
    case 96: backward(a, 96, dout, logsums, dqkv, dq_weight, dk_weight); break;
    case 128: backward(a, 128, dout, logsums, dqkv, dq_weight, dk_weight); break;
    default: backward(a, a->width, dout, logsums, dqkv, dq_weight, dk_weight);
    }
}
