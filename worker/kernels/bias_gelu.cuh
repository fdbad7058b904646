// gelu(x + bias) and its gradients (arXiv 1606.08415): x Phi(x), with the error function itself. The backward
// pass makes the result anew, which so need not be kept for the product that follows.
#pragma once

#include "worker/kernels/columns.cuh"

namespace cosub::kernels {

/// Phi(x), how much of a normal distribution is below x, and its density there, exp(-x^2 / 2) / sqrt(2 pi).
struct Normal {
  float below, density;
};

constexpr float kDensityAtZero = 0.39894228040143268f;  // 1 / sqrt(2 pi)

template <class T>
__device__ __forceinline__ Normal normal_at(float x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  return {0.5f * (1.0f + erff(x * kSqrtHalf)), kDensityAtZero * expf(-0.5f * x * x)};
}

/// Where the result is rounded to bfloat16, with fewer instructions: Abramowitz and Stegun,
/// Handbook of Mathematical Functions, 7.1.26, which errs by 1.5e-7 at most and needs the density anyway.
template <>
__device__ __forceinline__ Normal normal_at<Bf16>(float x) {
  constexpr float kHalfLog2E = 0.72134752044448170f;  // log2(e) / 2
  const float bell = fast_exp2(-kHalfLog2E * x * x);
  const float t = fast_reciprocal(1.0f + 0.23164189f * fabsf(x));
  const float half_of_tail =
      t *
      (0.127414796f + t * (-0.142248368f + t * (0.7107068705f + t * (-0.7265760135f + t * 0.5307027145f))));
  const float tail = half_of_tail * bell;
  return {x < 0 ? tail : 1.0f - tail, kDensityAtZero * bell};
}

template <class T, int kWidth>
struct BiasGeluColumns {
  static constexpr int kLinesAtOnce = 1;
  using In = Pack<kWidth>;
  BiasGelu a;
  Pack<kWidth> bias;

  __device__ __forceinline__ void begin(std::int64_t column) { bias = load<kWidth>(a.bias + column); }
  __device__ __forceinline__ In read(std::int64_t line, std::int64_t column) const {
    return load<kWidth>(static_cast<const T*>(a.x) + line * a.channels + column);
  }
  __device__ __forceinline__ void use(In x, std::int64_t line, std::int64_t column, float (&)[kWidth]) const {
    for (int i = 0; i < kWidth; ++i) {
      const float biased = x.at[i] + bias.at[i];
      x.at[i] = biased * normal_at<T>(biased).below;
    }
    store(x, static_cast<T*>(a.y) + line * a.channels + column);
  }
};

template <class T, int kWidth>
struct BiasGeluBackwardColumns {
  static constexpr int kLinesAtOnce = 2;
  struct In {
    Pack<kWidth> x, d;
  };
  BiasGeluBackward a;
  Pack<kWidth> bias;

  __device__ __forceinline__ void begin(std::int64_t column) { bias = load<kWidth>(a.bias + column); }
  __device__ __forceinline__ In read(std::int64_t line, std::int64_t column) const {
    const std::int64_t at = line * a.channels + column;
    return {load<kWidth>(static_cast<const T*>(a.x) + at), load<kWidth>(static_cast<const T*>(a.d_y) + at)};
  }
  __device__ __forceinline__ void use(In in, std::int64_t line, std::int64_t column,
                                      float (&sums)[kWidth]) const {
    const std::int64_t at = line * a.channels + column;
    for (int i = 0; i < kWidth; ++i) {
      const float biased = in.x.at[i] + bias.at[i];
      const Normal normal = normal_at<T>(biased);
      in.d.at[i] *= normal.below + biased * normal.density;
      sums[i] += in.d.at[i];
      in.x.at[i] = biased * normal.below;
    }
    store(in.d, static_cast<T*>(a.d_x) + at);
    store(in.x, static_cast<T*>(a.y) + at);
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
