#include "worker/model/attention_kernel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "worker/model/exp_of_negative.h"

// Compiled with contraction of a * b + c.
#if defined(__x86_64__) && defined(__GNUC__)
#define COSUB_AVX512 __attribute__((target("arch=x86-64-v4")))
#else
#define COSUB_AVX512
#endif

namespace cosub::model {
namespace {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kMostRows = 6, kMostVectors = 4;  // of a tile: 24 of the 32 registers hold its sums
constexpr std::int64_t kMostWeights = 40'000;            // of a block of queries: 160 KB

typedef float Vector __attribute__((vector_size(64)));  // NOLINT
typedef float VectorInMemory
    __attribute__((vector_size(64), aligned(4), may_alias));  // NOLINT: `using` has no say

COSUB_AVX512 inline Vector load(const float* from) {
  return *reinterpret_cast<const VectorInMemory*>(from);
}
COSUB_AVX512 inline void store(float* to, Vector value) {
  *reinterpret_cast<VectorInMemory*>(to) = value;
}

/// c = alpha * a b, or added to c. a(i, k) = a[i * a_row + k * a_column]; b and c have rows of b_row, c_row.
struct Product {
  const float* a;
  std::int64_t a_row, a_column;
  const float* b;
  std::int64_t b_row;
  float* c;
  std::int64_t c_row;
  std::int64_t rows, columns, inner;  // columns: a multiple of kLanes
  float alpha = 1;
  bool adds = false;
};

template <int kRows, int kVectors>
COSUB_AVX512 void multiply_tile(const Product& p, std::int64_t row, std::int64_t column) {
  Vector sums[kRows][kVectors] = {};
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  for (std::int64_t k = 0; k < p.inner; ++k, a += p.a_column, b += p.b_row) {
    Vector of_b[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) of_b[v] = load(b + v * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const float of_a = a[r * p.a_row];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] += of_a * of_b[v];
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* to = p.c + (row + r) * p.c_row + column + v * kLanes;
      const Vector scaled = p.alpha * sums[r][v];
      store(to, p.adds ? load(to) + scaled : scaled);
    }
  }
}

using TileFunction = void (*)(const Product&, std::int64_t, std::int64_t);

template <int kRows>
constexpr std::array<TileFunction, kMostVectors> tiles_of_rows() {
  return {multiply_tile<kRows, 1>, multiply_tile<kRows, 2>, multiply_tile<kRows, 3>, multiply_tile<kRows, 4>};
}
constexpr std::array<std::array<TileFunction, kMostVectors>, kMostRows> kTiles = {
    tiles_of_rows<1>(), tiles_of_rows<2>(), tiles_of_rows<3>(),
    tiles_of_rows<4>(), tiles_of_rows<5>(), tiles_of_rows<6>()};

/// body(begin, size): [0, total) in as few parts of at most `most` as can be, which differ by one at most.
template <typename Body>
void for_even_parts(std::int64_t total, std::int64_t most, const Body& body) {
  const std::int64_t parts = (total + most - 1) / most;
  for (std::int64_t i = 0; i < parts; ++i)
    body(total * i / parts, total * (i + 1) / parts - total * i / parts);
}

void multiply(const Product& p) {
  for_even_parts(p.columns / kLanes, kMostVectors, [&](std::int64_t vector, std::int64_t vectors) {
    for_even_parts(p.rows, kMostRows, [&](std::int64_t row, std::int64_t rows) {
      kTiles[static_cast<std::size_t>(rows - 1)][static_cast<std::size_t>(vectors - 1)](p, row,
                                                                                        vector * kLanes);
    });
  });
}

COSUB_AVX512 float total(Vector v) {
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

/// scores [size] -> weights; those up to `padded` become 0.
COSUB_AVX512 void softmax_row(float* row, std::int64_t size, std::int64_t padded) {
  std::fill(row + size, row + padded, -INFINITY);
  Vector most = Vector{} - INFINITY;
  for (std::int64_t c = 0; c < padded; c += kLanes) {
    const Vector here = load(row + c);
    most = here > most ? here : most;
  }
  float highest = -INFINITY;
  for (int lane = 0; lane < kLanes; ++lane) highest = std::max(highest, most[lane]);
  for (std::int64_t c = 0; c < padded; ++c) row[c] = exp_of_negative(row[c] - highest);
  Vector sums{};
  for (std::int64_t c = 0; c < padded; c += kLanes) sums += load(row + c);
  const float factor = 1.0F / total(sums);
  for (std::int64_t c = 0; c < padded; ++c) row[c] *= factor;
}

/// d_weights -> d_scores = weights * (d_weights - sum of weights * d_weights)
COSUB_AVX512 void softmax_row_backward(const float* weights, float* d, std::int64_t padded) {
  Vector sums{};
  for (std::int64_t c = 0; c < padded; c += kLanes) sums += load(weights + c) * load(d + c);
  const float sum = total(sums);
  for (std::int64_t c = 0; c < padded; ++c) d[c] = weights[c] * (d[c] - sum);
}

/// [width, padded]: columns of x's tokens, zeros behind them.
COSUB_AVX512 void transpose(const HeadShape& shape, const float* x, std::int64_t padded, float* to) {
  for (std::int64_t begin = 0; begin < padded; begin += kLanes) {
    const std::int64_t tokens = std::min(kLanes, shape.tokens - begin);
    for (std::int64_t w = 0; w < shape.width; ++w) {
      float* lanes = to + w * padded + begin;
      for (std::int64_t t = 0; t < tokens; ++t) lanes[t] = x[(begin + t) * shape.stride + w];
      for (std::int64_t t = tokens; t < kLanes; ++t) lanes[t] = 0;
    }
  }
}

struct Blocks {
  explicit Blocks(const HeadShape& shape)
      : padded((shape.tokens + kLanes - 1) / kLanes * kLanes),
        queries(std::clamp<std::int64_t>(kMostWeights / std::max<std::int64_t>(padded, 1), kMostRows,
                                         std::max(shape.tokens, kMostRows))) {}
  std::int64_t padded;   // tokens
  std::int64_t queries;  // of a block
};

/// weights [size, padded] of the queries from q on.
void weights_of_block(const HeadShape& shape, const float* q, const float* k_columns, std::int64_t size,
                      std::int64_t padded, float* weights) {
  multiply({.a = q,
            .a_row = shape.stride,
            .a_column = 1,
            .b = k_columns,
            .b_row = padded,
            .c = weights,
            .c_row = padded,
            .rows = size,
            .columns = padded,
            .inner = shape.width,
            .alpha = shape.scale});
  for (std::int64_t i = 0; i < size; ++i) softmax_row(weights + i * padded, shape.tokens, padded);
}

}  // namespace

bool has_attention_kernel(std::int64_t width) {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  return has && width % kLanes == 0;
#else
  return false;
#endif
}

std::int64_t attention_scratch(const HeadShape& shape) {
  const Blocks blocks(shape);
  return 2 * blocks.padded * (shape.width + blocks.queries);
}

void attend_head(const HeadShape& shape, const float* q, const float* k, const float* v, float* out,
                 float* scratch) {
  const Blocks blocks(shape);
  float* k_columns = scratch;
  float* weights = k_columns + shape.width * blocks.padded;
  transpose(shape, k, blocks.padded, k_columns);
  for_even_parts(shape.tokens, blocks.queries, [&](std::int64_t begin, std::int64_t size) {
    weights_of_block(shape, q + begin * shape.stride, k_columns, size, blocks.padded, weights);
    multiply({.a = weights,
              .a_row = blocks.padded,
              .a_column = 1,
              .b = v,
              .b_row = shape.stride,
              .c = out + begin * shape.out_stride,
              .c_row = shape.out_stride,
              .rows = size,
              .columns = shape.width,
              .inner = shape.tokens});
  });
}

void attend_head_backward(const HeadShape& shape, const float* q, const float* k, const float* v,
                          const float* d_out, float* d_q, float* d_k, float* d_v, float* scratch) {
  const Blocks blocks(shape);
  const std::int64_t padded = blocks.padded;
  float* k_columns = scratch;
  float* v_columns = k_columns + shape.width * padded;
  float* weights = v_columns + shape.width * padded;
  float* d_scores = weights + blocks.queries * padded;
  transpose(shape, k, padded, k_columns);
  transpose(shape, v, padded, v_columns);
  for_even_parts(shape.tokens, blocks.queries, [&](std::int64_t begin, std::int64_t size) {
    // alpha a^T b, [tokens, width], of a block's a [queries, tokens] and b [queries, width]
    const auto sum_over_queries = [&](const float* a, const float* b, std::int64_t b_row, float alpha,
                                      float* c) {
      multiply({.a = a,
                .a_row = 1,
                .a_column = padded,
                .b = b,
                .b_row = b_row,
                .c = c,
                .c_row = shape.stride,
                .rows = shape.tokens,
                .columns = shape.width,
                .inner = size,
                .alpha = alpha,
                .adds = begin > 0});
    };
    const float *q_here = q + begin * shape.stride, *d_here = d_out + begin * shape.out_stride;
    weights_of_block(shape, q_here, k_columns, size, padded, weights);
    multiply({.a = d_here,
              .a_row = shape.out_stride,
              .a_column = 1,
              .b = v_columns,
              .b_row = padded,
              .c = d_scores,
              .c_row = padded,
              .rows = size,
              .columns = padded,
              .inner = shape.width});
    for (std::int64_t i = 0; i < size; ++i)
      softmax_row_backward(weights + i * padded, d_scores + i * padded, padded);
    multiply({.a = d_scores,
              .a_row = padded,
              .a_column = 1,
              .b = k,
              .b_row = shape.stride,
              .c = d_q + begin * shape.stride,
              .c_row = shape.stride,
              .rows = size,
              .columns = shape.width,
              .inner = shape.tokens,
              .alpha = shape.scale});
    sum_over_queries(weights, d_here, shape.out_stride, 1, d_v);
    sum_over_queries(d_scores, q_here, shape.stride, shape.scale, d_k);
  });
}

}  // namespace cosub::model
