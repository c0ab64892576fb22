/* A few rows times the transpose of a matrix, at the speed at which memory gives the matrix: out[r][o] = bias[o] + sum_i x[r][i] w[o][i].
 *
 * A row of the matrix is read once, in the order in which it lies, and multiplied in float32 whatever it is stored as. Vectors are the
 * compiler's (GCC, Clang), so the file holds for every processor; 16 numbers are one AVX-512 register, two of AVX2.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define TOGETHER 4 /* outputs a thread takes at a time */

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

static inline floats load_float32(const float *at) { return *(const floats *)at; }

static inline floats load_bfloat16(const uint16_t *at) { return (floats)(__builtin_convertvector(*(const halves *)at, words) << 16); }

static inline float sum(floats lanes)
{
    float total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += lanes[lane];
    return total;
}

/* OUTPUTS x ROWS sums at once, each in CHAINS of its own, so that no addition waits for the one before. */
#define TILE(NAME, STORED, LOAD, OUTPUTS, ROWS, CHAINS)                                                                                    \
    static inline void NAME(const STORED *w, const float *x, const float *bias, float *out, ptrdiff_t outputs, ptrdiff_t inputs)           \
    {                                                                                                                                      \
        floats sums[OUTPUTS][ROWS][CHAINS];                                                                                                \
        memset(sums, 0, sizeof sums);                                                                                                      \
        for (ptrdiff_t i = 0; i < inputs; i += LANES * CHAINS) {                                                                           \
            _Pragma("GCC unroll 8") for (int c = 0; c < CHAINS; c++) {                                                                     \
                floats row[ROWS];                                                                                                          \
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) row[r] = load_float32(x + r * inputs + i + c * LANES);              \
                _Pragma("GCC unroll 8") for (int o = 0; o < OUTPUTS; o++) {                                                                \
                    floats weights = LOAD(w + o * inputs + i + c * LANES);                                                                 \
                    _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) sums[o][r][c] += weights * row[r];                              \
                }                                                                                                                          \
            }                                                                                                                              \
        }                                                                                                                                  \
        for (int o = 0; o < OUTPUTS; o++)                                                                                                  \
            for (int r = 0; r < ROWS; r++) {                                                                                               \
                floats total = sums[o][r][0];                                                                                              \
                for (int c = 1; c < CHAINS; c++)                                                                                           \
                    total += sums[o][r][c];                                                                                                \
                out[r * outputs + o] = sum(total) + (bias ? bias[o] : 0.0f);                                                               \
            }                                                                                                                              \
    }

/* `inputs` is a multiple of 64 (LANES times the longest CHAINS) and `outputs` of TOGETHER. */
#define PRODUCT(NAME, STORED, LOAD)                                                                                                        \
    TILE(NAME##_1, STORED, LOAD, 1, 1, 4)                                                                                                  \
    TILE(NAME##_2, STORED, LOAD, 1, 2, 2)                                                                                                  \
    TILE(NAME##_4, STORED, LOAD, TOGETHER, 4, 1)                                                                                           \
    void NAME(const STORED *w, const float *x, const float *bias, float *out, ptrdiff_t rows, ptrdiff_t outputs, ptrdiff_t inputs,         \
              int threads)                                                                                                                 \
    {                                                                                                                                      \
        _Pragma("omp parallel for schedule(static) num_threads(threads)") for (ptrdiff_t o = 0; o < outputs; o += TOGETHER)                \
        {                                                                                                                                  \
            const float *b = bias ? bias + o : NULL;                                                                                       \
            ptrdiff_t r = 0;                                                                                                               \
            for (; r + 4 <= rows; r += 4)                                                                                                  \
                NAME##_4(w + o * inputs, x + r * inputs, b, out + r * outputs + o, outputs, inputs);                                       \
            for (ptrdiff_t last = r; last < rows; last += 2)                                                                               \
                for (int k = 0; k < TOGETHER; k++)                                                                                         \
                    (rows - last > 1 ? NAME##_2 : NAME##_1)(w + (o + k) * inputs, x + last * inputs, b ? b + k : NULL,                     \
                                                            out + last * outputs + o + k, outputs, inputs);                                \
        }                                                                                                                                  \
    }

PRODUCT(product_float32, float, load_float32)
PRODUCT(product_bfloat16, uint16_t, load_bfloat16)
