/* The decoder of model.py, for inference on a CPU: tokens of any sequences, any number at once, one call.
 *
 * `kernel.py` compiles this file, packs the weights and owns the memory; tests/inference/test_network.py holds it
 * against model.py. Arithmetic is fp32. Matrices are fp32, bf16, or Q8_0 as llama.cpp has it: bytes, of which each 32 of
 * a row share a scale; the other operand of a product is bf16 if the matrix is, and else fp32. What is
 * computed for a token depends on its sequence alone, to the bit: every sum is taken in one order, however many tokens
 * and threads there are. So a token costs the same result alone, in a batch, in a prompt, or verified after a draft.
 *
 * N tokens, D width, H query heads, G key/value heads, K head width, I inner width, V vocabulary, B slots, S capacity.
 */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
#define TILES /* Intel's unit for products of bf16 matrices (AMX) */
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define LANES 16
#define BLOCK 64 /* rows of a matrix that lie side by side; a matrix is padded to whole blocks */
#define VECTORS (BLOCK / LANES)
#ifdef __AVX512F__
#define ROWS 6 /* tokens that share a pass over a block: ROWS * VECTORS sums stay in registers */
#else
#define ROWS 2
#endif
#define AHEAD 8192 /* bytes of a matrix between what is used first and what is sent for */
#define PART 192   /* tokens that go through a matrix together, so that the next cache holds them */
#define HEADS 4    /* query heads at most that go through keys and values together */
#define SIDE 16    /* tokens and outputs of the matrix unit's tiles, which take twice as many inputs */

_Static_assert(PART % SIDE == 0, "a part is a whole number of tiles");

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));
typedef int32_t integers __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1)));

enum { FLOAT, BF16, Q8_0 }; /* kinds of matrices */
#define GROUP 32            /* inputs that share a scale; of each group of a block the scales come first */
#define GROUP_BYTES (BLOCK * 2 + GROUP * BLOCK)

typedef struct {
    const float *input_norm, *q_norm, *k_norm, *post_norm; /* (D,), (K,) or null, (D,) */
    const void *qkv, *out, *gate_up, *down;                /* packed: (H + 2G) K x D, D x H K, 2I x D, D x I */
    void *keys;                                            /* (B, G, S / LANES, K, LANES) */
    void *values;                                          /* (B, G, S, padded K) */
} Layer;

typedef struct {
    long num_layers, D, H, G, K, I, V, S;
    long kind; /* of the matrices */
    long half; /* whether the cache is bf16, and not fp32 */
    float eps;
    const float *cosine, *sine; /* (positions, K / 2) */
    const float *norm;          /* (D,) */
    const void *output;         /* packed, V x D */
    const Layer *layers;
} Model;

/* Working memory, N rows each: what a matrix multiplies, fp32 or bf16, with rows up to a whole number of SIDE, and
 * what comes of it. */
typedef struct {
    void *input;   /* N x max(D, H K, I) */
    float *output; /* N x max(padded (H + 2G) K, padded 2I, padded D) */
} Scratch;

static inline long padded(long n, long to) { return (n + to - 1) / to * to; }

static inline long block_bytes(long inputs, int kind) {
    return kind == Q8_0 ? inputs / GROUP * GROUP_BYTES : inputs * BLOCK * (kind == BF16 ? 2 : 4);
}

/* Bytes of a token's inputs to a product with a matrix of this kind. */
static inline long row_bytes(long inputs, int kind) { return inputs * (kind == BF16 ? 2 : 4); }

/* Inputs that are multiplied one after the other; in bf16 they come in pairs. */
static inline long num_steps(long inputs, int kind) { return kind == BF16 ? inputs / 2 : inputs; }

static inline uint16_t rounded(float x) {
    union { float f; uint32_t u; } v = {x};
    return (v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16;
}

/* e^x within two units in the last place; written so that compilers make vector code of it. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float f = __builtin_fmaf(n, -1.42860677e-6f, __builtin_fmaf(n, -0.693145752f, x));
    float p = 1.0f / 5040;
    p = __builtin_fmaf(p, f, 1.0f / 720);
    p = __builtin_fmaf(p, f, 1.0f / 120);
    p = __builtin_fmaf(p, f, 1.0f / 24);
    p = __builtin_fmaf(p, f, 1.0f / 6);
    p = __builtin_fmaf(p, f, 0.5f);
    p = __builtin_fmaf(p, f, 1.0f);
    p = __builtin_fmaf(p, f, 1.0f);
    union { int32_t i; float f; } power = {((int32_t)n + 127) << 23};
    return p * power.f;
}

static inline void store(void *to, long index, float x, int half) {
    if (half)
        ((uint16_t *)to)[index] = rounded(x);
    else
        ((float *)to)[index] = x;
}

static inline floats load(const void *from, long index, int half) {
    if (!half)
        return *(const floats *)((const float *)from + index);
    const halves half_words = *(const halves *)((const uint16_t *)from + index);
#ifdef __AVX512F__ /* GCC 12 widens vectors one element at a time, unless told otherwise */
    return (floats)((words)_mm512_cvtepu16_epi32((__m256i)half_words) << 16);
#else
    return (floats)(__builtin_convertvector(half_words, words) << 16);
#endif
}

static inline floats widened(bytes values) {
#ifdef __AVX512F__
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)values));
#else
    return __builtin_convertvector(__builtin_convertvector(values, integers), floats);
#endif
}

/* From fp16, which not every compiler has a type for. No infinities: these are scales. */
static inline floats scaled(halves values) {
#ifdef __AVX512F__
    return (floats)_mm512_cvtph_ps((__m256i)values);
#else
    const words wide = __builtin_convertvector(values, words);
    const floats magnitude = (floats)((wide & 0x7fff) << 13) * 0x1p112f; /* the exponent's bias, of 15, becomes 127 */
    return (floats)((words)magnitude | (wide & 0x8000) << 16);
#endif
}

/* sum + w · x for one input of every row of a vector, or for the next two where they are bf16. */
static inline floats multiply(floats sum, const void *weights, long vector, const void *x, long k, int kind) {
    if (kind == FLOAT)
        return sum + ((const floats *)weights)[vector] * ((const float *)x)[k];
    uint32_t pair = ((const uint32_t *)x)[k];
#ifdef __AVX512BF16__
    __m512i w = (__m512i)((const words *)weights)[vector];
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32((int)pair));
#else
    words w = ((const words *)weights)[vector];
    union { uint32_t u; float f; } low = {pair << 16}, high = {pair & 0xffff0000};
    sum += (floats)(w << 16) * low.f;
    return sum + (floats)(w & 0xffff0000) * high.f;
#endif
}

/* Bring lines of 64 bytes into the nearest cache. The hardware's own looking ahead ends with each small page. */
static inline void send_for(const char *from, int lines) {
    for (int line = 0; line < lines; line++)
        __builtin_prefetch(from + line * 64);
}

/* `rows` tokens by one block: y (rows, BLOCK) = or += x (rows, inputs) · block. For every input, or pair of them, it
 * sends for so many of the lines that begin at `wanted`. */
static inline __attribute__((always_inline)) void tile(
    int rows, const char *block, const char *x, long inputs, float *y, long stride, int kind, int add,
    const char *wanted, int lines) {
    const long steps = num_steps(inputs, kind), stretch = row_bytes(inputs, kind);
    floats sums[ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++)
            sums[r][v] = (floats){0};
    if (kind == Q8_0)
        for (long group = 0; group < inputs / GROUP; group++) {
            const char *from = block + group * GROUP_BYTES;
            const bytes *values = (const bytes *)(from + BLOCK * 2);
            floats scale[VECTORS];
            for (int v = 0; v < VECTORS; v++)
                scale[v] = scaled(((const halves *)from)[v]);
            for (long k = 0; k < GROUP; k++) {
                send_for(wanted + (group * GROUP + k) * lines * 64, lines);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) {
                    const floats w = widened(values[k * VECTORS + v]) * scale[v];
#pragma GCC unroll 8
                    for (int r = 0; r < rows; r++)
                        sums[r][v] += w * ((const float *)(x + r * stretch))[group * GROUP + k];
                }
            }
        }
    else
        for (long k = 0; k < steps; k++) {
            send_for(wanted + k * lines * 64, lines);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sums[r][v] = multiply(sums[r][v], block, k * VECTORS + v, x + r * stretch, k, kind);
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) {
            floats *to = (floats *)(y + r * stride + v * LANES);
            *to = add ? *to + sums[r][v] : sums[r][v];
        }
}

static inline __attribute__((always_inline)) void tiles(
    const char *block, const char *x, long inputs, float *y, long stride, long N, int kind, int add) {
    const long passes = (N + ROWS - 1) / ROWS, steps = num_steps(inputs, kind);
    const int block_lines = kind == Q8_0 ? 1 : BLOCK * 4 / 64; /* for each step, but for Q8_0's scales */
    const int share = passes > 2 ? (block_lines + passes - 2) / (passes - 1) : 0;
    const char *next = block + block_bytes(inputs, kind);
    long rows;
    for (long n = 0, pass = 0; n < N; n += rows, pass++) {
        const char *from = x + n * row_bytes(inputs, kind), *wanted = block + AHEAD;
        float *to = y + n * stride;
        int lines = block_lines;
        if (pass > 0) { /* the block is here, and the next one may come meanwhile */
            wanted = next + (pass - 1) * steps * share * 64;
            lines = (pass - 1) * share < block_lines ? share : 0;
        }
        rows = (N - n + passes - pass - 1) / (passes - pass); /* nearly equal: a pass of few is slow for its size */
        switch (rows) {
        case 1: tile(1, block, from, inputs, to, stride, kind, add, wanted, lines); break;
        case 2: tile(2, block, from, inputs, to, stride, kind, add, wanted, lines); break;
#if ROWS > 2
        case 3: tile(3, block, from, inputs, to, stride, kind, add, wanted, lines); break;
        case 4: tile(4, block, from, inputs, to, stride, kind, add, wanted, lines); break;
        case 5: tile(5, block, from, inputs, to, stride, kind, add, wanted, lines); break;
        case 6: tile(6, block, from, inputs, to, stride, kind, add, wanted, lines); break;
#endif
        }
    }
}

#ifdef TILES
static int permitted;

/* Linux gives a process the unit's registers when it asks for them. */
__attribute__((constructor)) static void ask(void) {
    const long request = 0x1023, registers = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    permitted = syscall(SYS_arch_prctl, request, registers) == 0;
}

static int on_tiles(int kind, long inputs) { return kind == BF16 && permitted && inputs % (2 * SIDE) == 0; }

static void configure(void) {
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {.palette = 1};
    for (int t = 0; t < 8; t++)
        shape.bytes[t] = 64, shape.rows[t] = SIDE;
    __asm__ volatile("" : : "m"(shape)); /* GCC before 12.4 takes it that eight bytes of it are read */
    _tile_loadconfig(&shape);
}

static inline void send_for_rows(const char *weights, int from, int first) {
    for (int row = from; first && row < from + SIDE / 4; row++)
        send_for(weights + AHEAD + row * BLOCK * 4, BLOCK * 4 / 64);
}

/* SIDE tokens by one block, in bf16. x has so many rows, of which the first `rows` are tokens; y has those only. */
static inline __attribute__((always_inline)) void tile_row(
    const char *block, const char *x, long inputs, float *y, long stride, long rows, int add, int first) {
    float sums[SIDE][BLOCK];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long k = 0; k < inputs; k += 2 * SIDE) {
        const char *weights = block + k * BLOCK * 2;
        _tile_loadd(4, x + k * 2, inputs * 2);
        _tile_loadd(5, weights, BLOCK * 4);
        _tile_dpbf16ps(0, 4, 5);
        send_for_rows(weights, 0, first);
        _tile_loadd(6, weights + 64, BLOCK * 4);
        _tile_dpbf16ps(1, 4, 6);
        send_for_rows(weights, 4, first);
        _tile_loadd(7, weights + 128, BLOCK * 4);
        _tile_dpbf16ps(2, 4, 7);
        send_for_rows(weights, 8, first);
        _tile_loadd(5, weights + 192, BLOCK * 4);
        _tile_dpbf16ps(3, 4, 5);
        send_for_rows(weights, 12, first);
    }
    _tile_stored(0, sums[0], BLOCK * 4);
    _tile_stored(1, sums[0] + SIDE, BLOCK * 4);
    _tile_stored(2, sums[0] + 2 * SIDE, BLOCK * 4);
    _tile_stored(3, sums[0] + 3 * SIDE, BLOCK * 4);
    for (long r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) {
            floats *to = (floats *)(y + r * stride + v * LANES), sum = *(floats *)(sums[r] + v * LANES);
            *to = add ? *to + sum : sum;
        }
}
#endif

/* y (N, stride) = or += x (N, inputs) · block. */
static inline void multiply_block(
    const char *block, const char *x, long inputs, float *y, long stride, long N, int kind, int add) {
#ifdef TILES
    if (on_tiles(kind, inputs)) {
        for (long n = 0; n < N; n += SIDE)
            tile_row(block, x + n * inputs * 2, inputs, y + n * stride, stride, N - n < SIDE ? N - n : SIDE, add, n == 0);
        return;
    }
#endif
    switch (kind) { /* with the kind as a constant the loops become three */
    case FLOAT: tiles(block, x, inputs, y, stride, N, FLOAT, add); break;
    case BF16: tiles(block, x, inputs, y, stride, N, BF16, add); break;
    case Q8_0: tiles(block, x, inputs, y, stride, N, Q8_0, add); break;
    }
}

/* y (N, stride) = or += x (N, inputs) · matrix (outputs, inputs), by all threads of the team. */
static void multiply_matrix(
    const void *matrix, long outputs, const void *x, long inputs, float *y, long stride, long N, int kind, int add) {
    const long blocks = (outputs + BLOCK - 1) / BLOCK, size = block_bytes(inputs, kind);
#ifdef TILES
    if (on_tiles(kind, inputs))
        configure();
#endif
    /* A few tokens: to each thread one stretch of memory. Many: blocks as threads are free, on a shared processor. */
    const long turn = N > PART ? 1 : (blocks + omp_get_num_threads() - 1) / omp_get_num_threads();
    for (long n = 0; n < N; n += PART) {
        const long rows = N - n < PART ? N - n : PART;
#pragma omp for schedule(dynamic, turn) nowait
        for (long b = 0; b < blocks; b++)
            multiply_block((const char *)matrix + b * size, (const char *)x + n * row_bytes(inputs, kind), inputs,
                           y + n * stride + b * BLOCK, stride, rows, kind, add);
    }
#ifdef TILES
    if (on_tiles(kind, inputs))
        _tile_release();
#endif
#pragma omp barrier
}

static inline float norm_scale(const float *x, long n, float eps) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++)
        sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / n + eps);
}

static inline void normalise(const float *x, const float *gain, long D, float eps, void *y, long offset, int half) {
    const float scale = norm_scale(x, D, eps);
    for (long i = 0; i < D; i++)
        store(y, offset + i, x[i] * scale * gain[i], half);
}

/* One head (K,), in place: norm, if it has one, then the turn to its position. */
static inline void prepare(float *head, const float *gain, const float *cosine, const float *sine, long K, float eps) {
    if (gain) {
        const float scale = norm_scale(head, K, eps);
        for (long i = 0; i < K; i++)
            head[i] *= scale * gain[i];
    }
    for (long i = 0; i < K / 2; i++) {
        const float a = head[i], b = head[i + K / 2];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + K / 2] = b * cosine[i] + a * sine[i];
    }
}

/* Prepare the heads of a token, qkv (H + 2G, K), and write its keys and values into the cache. */
static void enter(const Model *m, const Layer *layer, float *qkv, long slot, long position) {
    const long K = m->K, wide = padded(K, LANES);
    const float *cosine = m->cosine + position * (K / 2), *sine = m->sine + position * (K / 2);
    for (long h = 0; h < m->H; h++)
        prepare(qkv + h * K, layer->q_norm, cosine, sine, K, m->eps);
    for (long g = 0; g < m->G; g++) {
        float *key = qkv + (m->H + g) * K, *value = qkv + (m->H + m->G + g) * K;
        prepare(key, layer->k_norm, cosine, sine, K, m->eps);
        const long keys = (slot * m->G + g) * m->S * K + position / LANES * LANES * K + position % LANES;
        const long values = ((slot * m->G + g) * m->S + position) * wide;
        for (long i = 0; i < K; i++) {
            store(layer->keys, keys + i * LANES, key[i], m->half);
            store(layer->values, values + i, value[i], m->half);
        }
    }
}

/* Attention of `heads` query heads (heads, K) that share one cache, over its first `length` entries. scores: room for
 * as many times S floats. */
static inline __attribute__((always_inline)) void attend(
    int heads, const float *query, const void *keys, long first_key, const void *values, long first_value, long length,
    long K, long S, float *scores, void *out, long first_out, int half, int out_half) {
    const long blocks = (length + LANES - 1) / LANES, wide = padded(K, LANES), size = half ? 2 : 4;
    const float scale = 1.0f / sqrtf(K);
    float shares[HEADS];
    for (long b = 0; b < blocks; b++) {
        floats even[HEADS] = {0}, odd[HEADS] = {0};
        for (long i = 0; i < K; i += 2) {
            const floats key = load(keys, first_key + (b * K + i) * LANES, half);
            const floats next = load(keys, first_key + (b * K + i + 1) * LANES, half);
            for (long entry = i; entry < i + 2; entry++) { /* of the next keys, and of the values beside these */
                __builtin_prefetch((const char *)keys + (first_key + ((b + 1) * K + entry) * LANES) * size);
                __builtin_prefetch((const char *)values + (first_value + (b * wide + entry) * LANES) * size);
            }
#pragma GCC unroll 4
            for (int h = 0; h < heads; h++) {
                even[h] += key * query[h * K + i];
                odd[h] += next * query[h * K + i + 1];
            }
        }
        for (int h = 0; h < heads; h++)
            *(floats *)(scores + h * S + b * LANES) = (even[h] + odd[h]) * scale;
    }
    for (int h = 0; h < heads; h++) {
        float *own = scores + h * S, largest = -INFINITY, total = 0;
#pragma omp simd reduction(max : largest)
        for (long s = 0; s < length; s++)
            largest = own[s] > largest ? own[s] : largest;
#pragma omp simd reduction(+ : total)
        for (long s = 0; s < length; s++) {
            own[s] = exponential(own[s] - largest);
            total += own[s];
        }
        shares[h] = 1.0f / total;
    }
    for (long i = 0; i < wide; i += LANES) {
        floats even[HEADS] = {0}, odd[HEADS] = {0};
        long s = 0;
        for (; s + 1 < length; s += 2) {
            const floats value = load(values, first_value + s * wide + i, half);
            const floats next = load(values, first_value + (s + 1) * wide + i, half);
#pragma GCC unroll 4
            for (int h = 0; h < heads; h++) {
                even[h] += value * scores[h * S + s];
                odd[h] += next * scores[h * S + s + 1];
            }
        }
        if (s < length) {
            const floats value = load(values, first_value + s * wide + i, half);
#pragma GCC unroll 4
            for (int h = 0; h < heads; h++)
                even[h] += value * scores[h * S + s];
        }
        for (int h = 0; h < heads; h++) {
            const floats mixed = (even[h] + odd[h]) * shares[h];
            for (long lane = 0; lane < LANES && i + lane < K; lane++)
                store(out, first_out + h * K + i + lane, mixed[lane], out_half);
        }
    }
}

/* Run N tokens through the model. Token n stands at positions[n] of the sequence in slots[n]; whatever comes before it
 * in that sequence must have been entered earlier or stand in this call too. x (N, padded D) holds the tokens'
 * embeddings and is used up. logits (R, padded V) receives those of the tokens `wanted`, of which there are R. scores:
 * HEADS · S floats for every thread. */
void forward(
    const Model *m, long N, float *x, const int64_t *slots, const int64_t *positions, long R, const int64_t *wanted,
    float *logits, const Scratch *scratch, float *scores, long num_threads) {
    const long D = m->D, K = m->K, queries = m->H * K, heads = queries + 2 * m->G * K;
    const long x_stride = padded(D, BLOCK), qkv_stride = padded(heads, BLOCK), inner_stride = padded(2 * m->I, BLOCK);
    const long together = m->H / m->G % 4 == 0 ? 4 : m->H / m->G % 2 == 0 ? 2 : 1;
    const int kind = (int)m->kind, half = kind == BF16;
    void *input = scratch->input;
    float *output = scratch->output;
#pragma omp parallel num_threads(num_threads)
    for (long l = 0; l <= m->num_layers; l++) {
        if (l == m->num_layers) {
#pragma omp for schedule(static)
            for (long r = 0; r < R; r++)
                normalise(x + wanted[r] * x_stride, m->norm, D, m->eps, input, r * D, half);
            multiply_matrix(m->output, m->V, input, D, logits, padded(m->V, BLOCK), R, kind, 0);
            continue;
        }
        const Layer *layer = m->layers + l;
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++)
            normalise(x + n * x_stride, layer->input_norm, D, m->eps, input, n * D, half);
        multiply_matrix(layer->qkv, heads, input, D, output, qkv_stride, N, kind, 0);
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++)
            enter(m, layer, output + n * qkv_stride, slots[n], positions[n]);
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (long n = 0; n < N; n++)
            for (long h = 0; h < m->H; h += together) {
                const long cache = slots[n] * m->G + h / (m->H / m->G);
                const float *query = output + n * qkv_stride + h * K;
                float *own = scores + omp_get_thread_num() * HEADS * m->S;
                const long key = cache * m->S * K, value = cache * m->S * padded(K, LANES), out = n * queries + h * K;
                const long length = positions[n] + 1;
#define ATTEND(heads, half, out_half)                                                                                 \
    attend(heads, query, layer->keys, key, layer->values, value, length, K, m->S, own, input, out, half, out_half)
                switch (together * 2 + m->half) { /* with these as constants the sums stay in registers */
                case 2: ATTEND(1, 0, 0); break;
                case 3: ATTEND(1, 1, half); break;
                case 4: ATTEND(2, 0, 0); break;
                case 5: ATTEND(2, 1, half); break;
                case 8: ATTEND(4, 0, 0); break;
                case 9: ATTEND(4, 1, half); break;
                }
            }
        multiply_matrix(layer->out, D, input, queries, x, x_stride, N, kind, 1);
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++)
            normalise(x + n * x_stride, layer->post_norm, D, m->eps, input, n * D, half);
        multiply_matrix(layer->gate_up, 2 * m->I, input, D, output, inner_stride, N, kind, 0);
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            const float *gate = output + n * inner_stride, *up = gate + m->I;
            for (long i = 0; i < m->I; i++)
                store(input, n * m->I + i, gate[i] / (1 + exponential(-gate[i])) * up[i], half);
        }
        multiply_matrix(layer->down, D, input, m->I, x, x_stride, N, kind, 1);
    }
}
