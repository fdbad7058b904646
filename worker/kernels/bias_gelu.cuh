// gelu(x + bias) and its gradients (arXiv 1606.08415): x Phi(x), with the error function itself. The backward
// pass makes the result anew, which so need not be kept for the product that follows.
#pragma once

#include "worker/kernels/columns.cuh"

namespace cosub::kernels {

/// Phi(x): how much of a normal distribution is below x.
__device__ __forceinline__ float normal_below(float x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  return 0.5f * (1.0f + erff(x * kSqrtHalf));
}

template <class T, int kWidth>
struct BiasGeluColumns {
  static constexpr int kSums = 1;  // none
  BiasGelu a;
  Pack<kWidth> bias;

  __device__ __forceinline__ void begin(std::int64_t column) { bias = load<kWidth>(a.bias + column); }
  __device__ __forceinline__ void visit(std::int64_t line, std::int64_t column, float (&)[1][kWidth]) {
    const std::int64_t at = line * a.channels + column;
    Pack<kWidth> x = load<kWidth>(static_cast<const T*>(a.x) + at);
    for (int i = 0; i < kWidth; ++i) {
      const float biased = x.at[i] + bias.at[i];
      x.at[i] = biased * normal_below(biased);
    }
    store(x, static_cast<T*>(a.y) + at);
  }
};

template <class T, int kWidth>
struct BiasGeluBackwardColumns {
  static constexpr int kSums = 1;  // d_bias
  BiasGeluBackward a;
  Pack<kWidth> bias;

  __device__ __forceinline__ void begin(std::int64_t column) { bias = load<kWidth>(a.bias + column); }
  __device__ __forceinline__ void visit(std::int64_t line, std::int64_t column, float (&sums)[1][kWidth]) {
    constexpr float kDensityAtZero = 0.39894228040143268f;  // 1 / sqrt(2 pi)
    const std::int64_t at = line * a.channels + column;
    Pack<kWidth> x = load<kWidth>(static_cast<const T*>(a.x) + at);
    Pack<kWidth> d = load<kWidth>(static_cast<const T*>(a.d_y) + at);
    for (int i = 0; i < kWidth; ++i) {
      const float biased = x.at[i] + bias.at[i];
      const float below = normal_below(biased), density = kDensityAtZero * expf(-0.5f * biased * biased);
      d.at[i] *= below + biased * density;
      sums[0][i] += d.at[i];
      x.at[i] = biased * below;
    }
    store(d, static_cast<T*>(a.d_x) + at);
    store(x, static_cast<T*>(a.y) + at);
  }
};

inline void run_bias_gelu(const BiasGelu& a, Stream stream) {
  const bool four = a.channels % 4 == 0 && aligned_for_4(a.x, a.bias, a.y);
  with_type(a.type, [&](auto type) {
    with_width(four, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      run_columns<kWidth>("bias_gelu", BiasGeluColumns<decltype(type), kWidth>{a, {}}, a.lines, a.channels,
                          nullptr, stream);
    });
  });
}

inline void run_bias_gelu_backward(const BiasGeluBackward& a, Stream stream) {
  const bool four = a.channels % 4 == 0 && aligned_for_4(a.x, a.bias, a.d_y, a.d_x, a.y);
  with_type(a.type, [&](auto type) {
    with_width(four, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      run_columns<kWidth>("bias_gelu_backward", BiasGeluBackwardColumns<decltype(type), kWidth>{a, {}},
                          a.lines, a.channels, a.scratch, stream, a.d_bias);
    });
  });
}

}  // namespace cosub::kernels
