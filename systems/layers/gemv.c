/* A transformer's layers for a few rows, as decoding has them: at the speed at which memory gives the weights.
 *
 * Matrices are read once, in the order in which they lie. Vectors are the compiler's (GCC, Clang), so the file holds for every processor;
 * 16 numbers are one AVX-512 register, two of AVX2. No number depends on how many threads there are.
 *
 * Shape letters: B batch, S queries an item, R = B S rows, H heads, D numbers a head, W = H D width, C columns of a cache.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define BLOCK (4 * LANES) /* inputs are a multiple of it */
#define EPSILON 1e-5f     /* of every norm */
#define TOGETHER 4        /* outputs are; a thread takes so many at a time */

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));

/* All members of the structures are eight bytes wide: whoever calls hands them over as arrays of such words. */
typedef struct {
    const float *weight; /* [outputs, inputs] */
    const float *bias;   /* [outputs] or NULL */
    ptrdiff_t outputs, inputs;
} matrix;

/* Sixteen numbers: vector c of a block of 64. */
static inline floats load(const float *block, int c) { return *(const floats *)(block + LANES * c); }

static inline float sum(floats lanes)
{
    float total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += lanes[lane];
    return total;
}

/* OUTPUTS x ROWS sums at once, each in CHAINS of its own, so that no addition waits for the one before. */
#define TILE(NAME, OUTPUTS, ROWS, CHAINS)                                                                                                  \
    static inline void NAME(const matrix *m, ptrdiff_t o, const float *x, float *out, int add)                                             \
    {                                                                                                                                      \
        const float *w = m->weight + o * m->inputs;                                                                                        \
        floats sums[OUTPUTS][ROWS][CHAINS];                                                                                                \
        memset(sums, 0, sizeof sums);                                                                                                      \
        for (ptrdiff_t i = 0; i < m->inputs; i += BLOCK) {                                                                                 \
            _Pragma("GCC unroll 4") for (int c = 0; c < 4; c++) {                                                                          \
                floats row[ROWS];                                                                                                          \
                _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++) row[r] = load(x + r * m->inputs + i, c);                            \
                _Pragma("GCC unroll 4") for (int k = 0; k < OUTPUTS; k++) {                                                                \
                    floats weights = load(w + k * m->inputs + i, c);                                                                       \
                    _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++) sums[k][r][c % CHAINS] += weights * row[r];                     \
                }                                                                                                                          \
            }                                                                                                                              \
        }                                                                                                                                  \
        for (int k = 0; k < OUTPUTS; k++)                                                                                                  \
            for (int r = 0; r < ROWS; r++) {                                                                                               \
                floats total = sums[k][r][0];                                                                                              \
                for (int c = 1; c < CHAINS; c++)                                                                                           \
                    total += sums[k][r][c];                                                                                                \
                float *at = out + r * m->outputs + o + k;                                                                                  \
                float value = sum(total) + (m->bias ? m->bias[o + k] : 0.0f);                                                              \
                *at = add ? *at + value : value;                                                                                           \
            }                                                                                                                              \
    }

TILE(tile_1, 1, 1, 4)
TILE(tile_2, 1, 2, 2)
TILE(tile_4, TOGETHER, 4, 1)

/* To be called by every thread of a team; outputs are shared out among them. */
static void multiply(const matrix *m, ptrdiff_t rows, const float *x, float *out, int add)
{
#pragma omp for schedule(static)
    for (ptrdiff_t o = 0; o < m->outputs; o += TOGETHER) {
        ptrdiff_t r = 0;
        for (; r + 4 <= rows; r += 4)
            tile_4(m, o, x + r * m->inputs, out + r * m->outputs, add);
        for (; r < rows; r += 2)
            for (int k = 0; k < TOGETHER; k++)
                (rows - r > 1 ? tile_2 : tile_1)(m, o + k, x + r * m->inputs, out + r * m->outputs, add);
    }
}

/* out[R][outputs] = x[R][inputs] times the transpose of the matrix, plus its bias. */
void product(const matrix *m, ptrdiff_t rows, const float *x, float *out, int threads)
{
#pragma omp parallel num_threads(threads)
    multiply(m, rows, x, out, 0);
}

typedef struct {
    const float *weight, *bias; /* [W]; without a bias it is a norm by the root of the mean square */
} norm;

typedef struct {
    norm before_attention, before_forward;
    matrix attention_enter, attention_leave, forward_enter, forward_leave;
    ptrdiff_t heads;
    ptrdiff_t gated; /* SwiGLU, else GELU in its tanh form */
} layer;

typedef struct {
    float *keys, *values;       /* [B, H, C, D] */
    const int64_t *columns;     /* [S], where the queries' own are written */
    ptrdiff_t capacity, seen;   /* C; columns that are read */
    const uint8_t *mask;        /* true where a query may look; NULL: everything up to its own column */
    ptrdiff_t by_item, by_head, by_query; /* strides of the mask; that of columns is 1 */
    const float *cosine, *sine; /* [R, D / 2], or NULL for unturned queries and keys */
    float *queries;             /* [B, H, S, D], filled in; or NULL */
} memory;

static void normalise(const norm *n, ptrdiff_t rows, ptrdiff_t width, const float *x, float *out)
{
#pragma omp for schedule(static)
    for (ptrdiff_t r = 0; r < rows; r++) {
        const float *from = x + r * width;
        float *to = out + r * width, mean = 0, square = 0;
        if (n->bias) {
#pragma omp simd reduction(+ : mean)
            for (ptrdiff_t i = 0; i < width; i++)
                mean += from[i];
            mean /= (float)width;
        }
#pragma omp simd reduction(+ : square)
        for (ptrdiff_t i = 0; i < width; i++)
            square += (from[i] - mean) * (from[i] - mean);
        float scale = 1.0f / sqrtf(square / (float)width + EPSILON);
#pragma omp simd
        for (ptrdiff_t i = 0; i < width; i++)
            to[i] = (from[i] - mean) * scale * n->weight[i] + (n->bias ? n->bias[i] : 0.0f);
    }
}

static void turn(float *x, const float *cosine, const float *sine, ptrdiff_t half)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < half; i++) {
        float first = x[i], second = x[half + i];
        x[i] = first * cosine[i] - second * sine[i];
        x[half + i] = second * cosine[i] + first * sine[i];
    }
}

/* One query; `scores` has room for what it sees. */
static void look(const uint8_t *mask, const float *query, const float *keys, const float *values, ptrdiff_t seen,
                 ptrdiff_t dim, float *scores, float *out)
{
    float highest = -INFINITY, total = 0, scale = 1.0f / sqrtf((float)dim);
    for (ptrdiff_t j = 0; j < seen; j++) {
        float score = 0;
        if (mask && !mask[j]) {
            scores[j] = -INFINITY;
            continue;
        }
#pragma omp simd reduction(+ : score)
        for (ptrdiff_t i = 0; i < dim; i++)
            score += query[i] * keys[j * dim + i];
        scores[j] = score * scale;
        highest = scores[j] > highest ? scores[j] : highest;
    }
    memset(out, 0, sizeof *out * (size_t)dim);
    for (ptrdiff_t j = 0; j < seen; j++) {
        float share = scores[j] == -INFINITY ? 0.0f : expf(scores[j] - highest);
        total += share;
#pragma omp simd
        for (ptrdiff_t i = 0; i < dim; i++)
            out[i] += share * values[j * dim + i];
    }
    for (ptrdiff_t i = 0; i < dim; i++)
        out[i] /= total;
}

/* From projected queries, keys and values [R, 3 W] to what the heads found [R, W]. */
static void attend(const memory *m, ptrdiff_t batch, ptrdiff_t queries, ptrdiff_t heads, ptrdiff_t dim, float *projected, float *scores,
                   float *out)
{
    ptrdiff_t width = heads * dim;
#pragma omp for schedule(static)
    for (ptrdiff_t item = 0; item < batch * heads; item++) {
        ptrdiff_t b = item / heads, h = item % heads;
        float *keys = m->keys + item * m->capacity * dim, *values = m->values + item * m->capacity * dim;
        for (ptrdiff_t s = 0; s < queries; s++) {
            ptrdiff_t row = b * queries + s;
            float *query = projected + row * 3 * width + h * dim, *key = query + width, *value = key + width;
            if (m->cosine) {
                turn(query, m->cosine + row * (dim / 2), m->sine + row * (dim / 2), dim / 2);
                turn(key, m->cosine + row * (dim / 2), m->sine + row * (dim / 2), dim / 2);
            }
            memcpy(keys + m->columns[s] * dim, key, sizeof *key * (size_t)dim);
            memcpy(values + m->columns[s] * dim, value, sizeof *value * (size_t)dim);
            if (m->queries)
                memcpy(m->queries + (item * queries + s) * dim, query, sizeof *query * (size_t)dim);
        }
        for (ptrdiff_t s = 0; s < queries; s++) {
            ptrdiff_t row = b * queries + s;
            const uint8_t *mask = m->mask ? m->mask + b * m->by_item + h * m->by_head + s * m->by_query : NULL;
            look(mask, projected + row * 3 * width + h * dim, keys, values, mask ? m->seen : m->columns[s] + 1, dim,
                 scores + item * m->seen, out + row * width + h * dim);
        }
    }
}

/* In place where there is no gate. */
static void activate(ptrdiff_t rows, ptrdiff_t hidden, ptrdiff_t gated, const float *entered, float *out)
{
#pragma omp for collapse(2) schedule(static)
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < hidden; i++) {
            if (gated) {
                float gate = entered[r * 2 * hidden + i];
                out[r * hidden + i] = gate / (1.0f + expf(-gate)) * entered[r * 2 * hidden + hidden + i];
            } else {
                float x = entered[r * hidden + i]; /* x / 2 (1 + tanh u) = x / (1 + exp(-2 u)) */
                out[r * hidden + i] = x / (1.0f + expf(-2.0f * 0.7978845608f * (x + 0.044715f * x * x * x)));
            }
        }
}

/* One layer over x[B S][W], in place. `room` has R (6 W + 3 hidden) + B H seen floats. */
void run_layer(const layer *l, const memory *m, ptrdiff_t batch, ptrdiff_t queries, float *x, float *room, int threads)
{
    ptrdiff_t rows = batch * queries, width = l->attention_leave.outputs, hidden = l->forward_leave.inputs;
    float *normed = room, *projected = normed + rows * width, *found = projected + 3 * rows * width;
    float *entered = found + rows * width, *active = entered + 2 * rows * hidden, *scores = active + rows * hidden;
#pragma omp parallel num_threads(threads)
    {
        normalise(&l->before_attention, rows, width, x, normed);
        multiply(&l->attention_enter, rows, normed, projected, 0);
        attend(m, batch, queries, l->heads, width / l->heads, projected, scores, found);
        multiply(&l->attention_leave, rows, found, x, 1);
        normalise(&l->before_forward, rows, width, x, normed);
        multiply(&l->forward_enter, rows, normed, entered, 0);
        activate(rows, hidden, l->gated, entered, active);
        multiply(&l->forward_leave, rows, active, x, 1);
    }
}
