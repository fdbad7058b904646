#include "worker/model/attention_kernel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "worker/model/exp_of_negative.h"

// The loops are written once, for vectors of any length, and inlined into functions which the compiler makes
// for an instruction set (`Avx512`, `Avx2` below). Compiled with contraction of a * b + c.
#if defined(__x86_64__) && defined(__GNUC__)
#define COSUB_AVX512 __attribute__((target("arch=x86-64-v4")))
#define COSUB_AVX2 __attribute__((target("arch=x86-64-v3")))
#else
#define COSUB_AVX512
#define COSUB_AVX2
#endif
#define COSUB_INLINED [[gnu::always_inline]] inline

namespace cosub::model {
namespace {

constexpr std::int64_t kMostWeights = 40'000;  // of a block of queries: 160 KB

template <int kLanes>
struct OfLanes {
  typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));  // NOLINT: `using` has no say
  typedef float InMemory
      __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));  // NOLINT
};
template <int kLanes>
using Vector = typename OfLanes<kLanes>::Vector;
template <int kLanes>
using InMemory = typename OfLanes<kLanes>::InMemory;

/// The lanes that lie there. References, as vectors by value would be passed in the registers of an
/// instruction set that the function itself is not made for.
template <int kLanes>
COSUB_INLINED const InMemory<kLanes>& lanes_at(const float* place) {
  return *reinterpret_cast<const InMemory<kLanes>*>(place);
}
template <int kLanes>
COSUB_INLINED InMemory<kLanes>& lanes_at(float* place) {
  return *reinterpret_cast<InMemory<kLanes>*>(place);
}

/// c = alpha * a b, or added to c. a(i, k) = a[i * a_row + k * a_column]; c has rows of c_row. b [inner,
/// columns] is in panels: as many of its columns as a tile has, row after row with nothing between, so that
/// they stay in the innermost cache, which rows of a model's width would throw each other out of.
struct Product {
  const float* a;
  std::int64_t a_row, a_column;
  const float* b;
  float* c;
  std::int64_t c_row;
  std::int64_t rows, columns, inner;  // columns: a multiple of the lanes
  float alpha = 1;
  bool adds = false;
};

template <int kLanes, int kRows, int kVectors>
COSUB_INLINED void multiply_tile(const Product& p, std::int64_t row, std::int64_t column) {
  Vector<kLanes> sums[kRows][kVectors] = {};
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column * p.inner;
  for (std::int64_t k = 0; k < p.inner; ++k, a += p.a_column, b += kVectors * kLanes) {
    Vector<kLanes> of_b[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) of_b[v] = lanes_at<kLanes>(b + v * kLanes);
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
      const Vector<kLanes> scaled = p.alpha * sums[r][v];
      lanes_at<kLanes>(to) = p.adds ? lanes_at<kLanes>(to) + scaled : scaled;
    }
  }
}

/// body(begin, size): [0, total) in as few parts of at most `most` as can be, which differ by one at most.
template <typename Body>
void for_even_parts(std::int64_t total, std::int64_t most, const Body& body) {
  const std::int64_t parts = (total + most - 1) / most;
  for (std::int64_t i = 0; i < parts; ++i)
    body(total * i / parts, total * (i + 1) / parts - total * i / parts);
}

template <int kLanes>
COSUB_INLINED float total(const Vector<kLanes>& v) {
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

/// scores [size] -> weights; those up to `padded` become 0.
template <int kLanes>
COSUB_INLINED void softmax_of_row(float* row, std::int64_t size, std::int64_t padded) {
  std::fill(row + size, row + padded, -INFINITY);
  Vector<kLanes> most = Vector<kLanes>{} - INFINITY;
  for (std::int64_t c = 0; c < padded; c += kLanes) {
    const Vector<kLanes> here = lanes_at<kLanes>(row + c);
    most = here > most ? here : most;
  }
  float highest = -INFINITY;
  for (int lane = 0; lane < kLanes; ++lane) highest = std::max(highest, most[lane]);
  for (std::int64_t c = 0; c < padded; ++c) row[c] = exp_of_negative(row[c] - highest);
  Vector<kLanes> sums{};
  for (std::int64_t c = 0; c < padded; c += kLanes) sums += lanes_at<kLanes>(row + c);
  const float factor = 1.0F / total<kLanes>(sums);
  for (std::int64_t c = 0; c < padded; ++c) row[c] *= factor;
}

/// d_weights -> d_scores = weights * (d_weights - sum of weights * d_weights)
template <int kLanes>
COSUB_INLINED void softmax_of_row_backward(const float* weights, float* d, std::int64_t padded) {
  Vector<kLanes> sums{};
  for (std::int64_t c = 0; c < padded; c += kLanes)
    sums += lanes_at<kLanes>(weights + c) * lanes_at<kLanes>(d + c);
  const float sum = total<kLanes>(sums);
  for (std::int64_t c = 0; c < padded; ++c) d[c] = weights[c] * (d[c] - sum);
}

/// The panels of a matrix with that many vectors of columns: body(first vector, vectors).
template <int kMostVectors, typename Body>
COSUB_INLINED void for_each_panel(std::int64_t vectors, const Body& body) {
  for_even_parts(vectors, kMostVectors, body);
}

/// [tokens, width] with rows of `stride` -> panels.
template <int kLanes, int kMostVectors>
COSUB_INLINED void pack_rows(const float* x, std::int64_t stride, std::int64_t tokens, std::int64_t width,
                             float* to) {
  for_each_panel<kMostVectors>(width / kLanes, [&](std::int64_t vector, std::int64_t vectors) {
    const float* from = x + vector * kLanes;
    for (std::int64_t t = 0; t < tokens; ++t, from += stride)
      for (std::int64_t v = 0; v < vectors; ++v, to += kLanes)
        lanes_at<kLanes>(to) = lanes_at<kLanes>(from + v * kLanes);
  });
}

/// The lanes of a and b in turn, of their first halves or, with kHigh, of their second.
template <int kLanes, bool kHigh, int... kIndex>
COSUB_INLINED void interleave(const Vector<kLanes>& a, const Vector<kLanes>& b, Vector<kLanes>& to,
                              std::integer_sequence<int, kIndex...> /*lanes*/) {
  to = __builtin_shufflevector(a, b, ((kIndex / 2) + (kHigh ? kLanes / 2 : 0) + (kIndex % 2) * kLanes)...);
}

/// A square of kLanes x kLanes, in place: each pass interleaves row i with row i + kLanes / 2.
template <int kLanes>
COSUB_INLINED void transpose_square(Vector<kLanes> (&rows)[kLanes]) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
#pragma GCC unroll 4
  for (int pass = 1; pass < kLanes; pass *= 2) {
    Vector<kLanes> next[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      interleave<kLanes, false>(rows[i], rows[i + kLanes / 2], next[2 * i], kAll);
      interleave<kLanes, true>(rows[i], rows[i + kLanes / 2], next[2 * i + 1], kAll);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

/// The same x as columns, [width, padded], zeros from `tokens` on -> panels.
template <int kLanes, int kMostVectors>
COSUB_INLINED void pack_columns(const float* x, std::int64_t stride, std::int64_t tokens, std::int64_t width,
                                std::int64_t padded, float* to) {
  for_each_panel<kMostVectors>(padded / kLanes, [&](std::int64_t vector, std::int64_t vectors) {
    for (std::int64_t v = 0; v < vectors; ++v) {
      const std::int64_t token = (vector + v) * kLanes;
      for (std::int64_t w = 0; w < width; w += kLanes) {
        Vector<kLanes> square[kLanes];
#pragma GCC unroll 16
        for (int t = 0; t < kLanes; ++t) {
          square[t] = Vector<kLanes>{};
          if (token + t < tokens) square[t] = lanes_at<kLanes>(x + (token + t) * stride + w);
        }
        transpose_square<kLanes>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          lanes_at<kLanes>(to + (w + i) * vectors * kLanes + v * kLanes) = square[i];
      }
    }
    to += width * vectors * kLanes;
  });
}

using TileFunction = void (*)(const Product&, std::int64_t, std::int64_t);

/// 6 x 4 vectors of sums, of 32 registers.
struct Avx512 {
  static constexpr int kLanes = 16, kMostRows = 6, kMostVectors = 4;
  template <int kRows, int kVectors>
  COSUB_AVX512 static void tile(const Product& p, std::int64_t row, std::int64_t column) {
    multiply_tile<kLanes, kRows, kVectors>(p, row, column);
  }
  COSUB_AVX512 static void softmax(float* row, std::int64_t size, std::int64_t padded) {
    softmax_of_row<kLanes>(row, size, padded);
  }
  COSUB_AVX512 static void softmax_backward(const float* weights, float* d, std::int64_t padded) {
    softmax_of_row_backward<kLanes>(weights, d, padded);
  }
  COSUB_AVX512 static void rows(const float* x, std::int64_t stride, std::int64_t tokens, std::int64_t width,
                                float* to) {
    pack_rows<kLanes, kMostVectors>(x, stride, tokens, width, to);
  }
  COSUB_AVX512 static void columns(const float* x, std::int64_t stride, std::int64_t tokens,
                                   std::int64_t width, std::int64_t padded, float* to) {
    pack_columns<kLanes, kMostVectors>(x, stride, tokens, width, padded, to);
  }
};

/// 6 x 2 vectors of sums, of 16 registers.
struct Avx2 {
  static constexpr int kLanes = 8, kMostRows = 6, kMostVectors = 2;
  template <int kRows, int kVectors>
  COSUB_AVX2 static void tile(const Product& p, std::int64_t row, std::int64_t column) {
    multiply_tile<kLanes, kRows, kVectors>(p, row, column);
  }
  COSUB_AVX2 static void softmax(float* row, std::int64_t size, std::int64_t padded) {
    softmax_of_row<kLanes>(row, size, padded);
  }
  COSUB_AVX2 static void softmax_backward(const float* weights, float* d, std::int64_t padded) {
    softmax_of_row_backward<kLanes>(weights, d, padded);
  }
  COSUB_AVX2 static void rows(const float* x, std::int64_t stride, std::int64_t tokens, std::int64_t width,
                              float* to) {
    pack_rows<kLanes, kMostVectors>(x, stride, tokens, width, to);
  }
  COSUB_AVX2 static void columns(const float* x, std::int64_t stride, std::int64_t tokens, std::int64_t width,
                                 std::int64_t padded, float* to) {
    pack_columns<kLanes, kMostVectors>(x, stride, tokens, width, padded, to);
  }
};

/// [rows - 1][vectors - 1]
template <typename Set, std::size_t... kIndex>
constexpr auto tiles_of(std::index_sequence<kIndex...>) {
  return std::array<TileFunction, sizeof...(kIndex)>{
      Set::template tile<kIndex / Set::kMostVectors + 1, kIndex % Set::kMostVectors + 1>...};
}

template <typename Set>
void multiply(const Product& p) {
  static constexpr auto kTiles =
      tiles_of<Set>(std::make_index_sequence<Set::kMostRows * Set::kMostVectors>());
  for_each_panel<Set::kMostVectors>(p.columns / Set::kLanes, [&](std::int64_t vector, std::int64_t vectors) {
    for_even_parts(p.rows, Set::kMostRows, [&](std::int64_t row, std::int64_t rows) {
      kTiles[static_cast<std::size_t>((rows - 1) * Set::kMostVectors + vectors - 1)](p, row,
                                                                                     vector * Set::kLanes);
    });
  });
}

template <typename Set>
struct Blocks {
  explicit Blocks(const HeadShape& shape)
      : padded((shape.tokens + Set::kLanes - 1) / Set::kLanes * Set::kLanes),
        queries(std::clamp<std::int64_t>(kMostWeights / std::max<std::int64_t>(padded, 1), Set::kMostRows,
                                         std::max<std::int64_t>(shape.tokens, Set::kMostRows))) {}
  std::int64_t padded;   // tokens
  std::int64_t queries;  // of a block
};

/// weights [size, padded] of the queries from q on.
template <typename Set>
void weights_of_block(const HeadShape& shape, const float* q, const float* k_columns, std::int64_t size,
                      std::int64_t padded, float* weights) {
  multiply<Set>({.a = q,
                 .a_row = shape.stride,
                 .a_column = 1,
                 .b = k_columns,
                 .c = weights,
                 .c_row = padded,
                 .rows = size,
                 .columns = padded,
                 .inner = shape.width,
                 .alpha = shape.scale});
  for (std::int64_t i = 0; i < size; ++i) Set::softmax(weights + i * padded, shape.tokens, padded);
}

template <typename Set>
std::int64_t scratch(const HeadShape& shape) {
  const Blocks<Set> blocks(shape);
  return 2 * blocks.padded * blocks.queries + 4 * blocks.padded * shape.width;
}

template <typename Set>
void forward(const HeadShape& shape, const float* q, const float* k, const float* v, float* out,
             float* scratch) {
  const Blocks<Set> blocks(shape);
  float* k_columns = scratch;
  float* weights = k_columns + shape.width * blocks.padded;
  float* v_rows = weights + blocks.queries * blocks.padded;
  Set::columns(k, shape.stride, shape.tokens, shape.width, blocks.padded, k_columns);
  Set::rows(v, shape.stride, shape.tokens, shape.width, v_rows);
  for_even_parts(shape.tokens, blocks.queries, [&](std::int64_t begin, std::int64_t size) {
    weights_of_block<Set>(shape, q + begin * shape.stride, k_columns, size, blocks.padded, weights);
    multiply<Set>({.a = weights,
                   .a_row = blocks.padded,
                   .a_column = 1,
                   .b = v_rows,
                   .c = out + begin * shape.out_stride,
                   .c_row = shape.out_stride,
                   .rows = size,
                   .columns = shape.width,
                   .inner = shape.tokens});
  });
}

template <typename Set>
void backward(const HeadShape& shape, const float* q, const float* k, const float* v, const float* d_out,
              float* d_q, float* d_k, float* d_v, float* scratch) {
  const Blocks<Set> blocks(shape);
  const std::int64_t padded = blocks.padded;
  float* k_columns = scratch;
  float* v_columns = k_columns + shape.width * padded;
  float* weights = v_columns + shape.width * padded;
  float* d_scores = weights + blocks.queries * padded;
  float* k_rows = d_scores + blocks.queries * padded;
  float* queries = k_rows + shape.width * padded;  // of a block, or their gradients
  Set::columns(k, shape.stride, shape.tokens, shape.width, padded, k_columns);
  Set::columns(v, shape.stride, shape.tokens, shape.width, padded, v_columns);
  Set::rows(k, shape.stride, shape.tokens, shape.width, k_rows);
  for_even_parts(shape.tokens, blocks.queries, [&](std::int64_t begin, std::int64_t size) {
    // alpha a^T b, [tokens, width], of a block's a [queries, tokens] and b [queries, width]
    const auto sum_over_queries = [&](const float* a, const float* b, std::int64_t b_row, float alpha,
                                      float* c) {
      Set::rows(b, b_row, size, shape.width, queries);
      multiply<Set>({.a = a,
                     .a_row = 1,
                     .a_column = padded,
                     .b = queries,
                     .c = c,
                     .c_row = shape.stride,
                     .rows = shape.tokens,
                     .columns = shape.width,
                     .inner = size,
                     .alpha = alpha,
                     .adds = begin > 0});
    };
    const float *q_here = q + begin * shape.stride, *d_here = d_out + begin * shape.out_stride;
    weights_of_block<Set>(shape, q_here, k_columns, size, padded, weights);
    multiply<Set>({.a = d_here,
                   .a_row = shape.out_stride,
                   .a_column = 1,
                   .b = v_columns,
                   .c = d_scores,
                   .c_row = padded,
                   .rows = size,
                   .columns = padded,
                   .inner = shape.width});
    for (std::int64_t i = 0; i < size; ++i)
      Set::softmax_backward(weights + i * padded, d_scores + i * padded, padded);
    multiply<Set>({.a = d_scores,
                   .a_row = padded,
                   .a_column = 1,
                   .b = k_rows,
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

template <typename Set>
constexpr AttentionKernel kKernel = {Set::kLanes, scratch<Set>, forward<Set>, backward<Set>};

std::vector<const AttentionKernel*> kernels_of_this_cpu() {
  std::vector<const AttentionKernel*> kernels;
#if defined(__x86_64__) && defined(__GNUC__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) kernels.push_back(&kKernel<Avx512>);
  if (has_avx2) kernels.push_back(&kKernel<Avx2>);
#endif
  return kernels;
}

}  // namespace

std::span<const AttentionKernel* const> attention_kernels() {
  static const std::vector<const AttentionKernel*> kernels = kernels_of_this_cpu();
  return kernels;
}

const AttentionKernel* attention_kernel_for(std::int64_t width) {
  for (const AttentionKernel* kernel : attention_kernels())
    if (width % kernel->lanes == 0) return kernel;
  return nullptr;
}

}  // namespace cosub::model
