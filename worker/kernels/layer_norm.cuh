// LayerNorm (arXiv 1607.06450) of gathered rows. Forward, and the two means over the channels that each
// line's gradient needs: a warp for a line. Then one pass by columns for d_x with the gradients of weight and
// bias.
#pragma once

#include "worker/kernels/columns.cuh"

namespace cosub::kernels {

constexpr int kLinesOfBlock = 4;  // a warp for each

__device__ __forceinline__ std::int64_t line_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kLinesOfBlock + threadIdx.y;
}

template <class T, int kWidth>
__global__ void layer_norm_kernel(LayerNorm a) {
  const std::int64_t line = line_of_warp(), channels = a.part.channels;
  if (line >= a.part.num_rows * a.part.positions) return;  // the whole warp
  const float* x = a.x + line_of_whole(a.part, line) * channels;
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * kWidth, stride = kWarp * kWidth;
  float sum = 0;
  for (std::int64_t c = first; c < channels; c += stride) {
    const Pack<kWidth> values = load<kWidth>(x + c);
    for (int i = 0; i < kWidth; ++i) sum += values.at[i];
    if (a.kept != nullptr) store(values, a.kept + line * channels + c);
  }
  const float mean = warp_sum(sum) / static_cast<float>(channels);
  float squares = 0;  // of the distances from the mean: the line comes from the cache
  for (std::int64_t c = first; c < channels; c += stride) {
    const Pack<kWidth> values = load<kWidth>(x + c);
    for (int i = 0; i < kWidth; ++i) squares += (values.at[i] - mean) * (values.at[i] - mean);
  }
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(channels) + a.eps);
  for (std::int64_t c = first; c < channels; c += stride) {
    Pack<kWidth> values = load<kWidth>(x + c);
    const Pack<kWidth> weight = load<kWidth>(a.weight + c), bias = load<kWidth>(a.bias + c);
    for (int i = 0; i < kWidth; ++i) values.at[i] = (values.at[i] - mean) * rstd * weight.at[i] + bias.at[i];
    store(values, static_cast<T*>(a.y) + line * channels + c);
  }
  if (threadIdx.x != 0) return;
  a.mean[line] = mean;
  a.rstd[line] = rstd;
}

__device__ __forceinline__ std::int64_t line_of_x(const LayerNormBackward& a, std::int64_t line) {
  return a.x_is_kept ? line : line_of_whole(a.part, line);
}

/// line_scratch[2 * line]: the means over the channels of g and of g * normed, where g = d_y * weight.
template <class T, int kWidth>
__global__ void layer_norm_means(LayerNormBackward a) {
  const std::int64_t line = line_of_warp(), channels = a.part.channels;
  if (line >= a.part.num_rows * a.part.positions) return;
  const float* x = a.x + line_of_x(a, line) * channels;
  const T* d_y = static_cast<const T*>(a.d_y) + line * channels;
  const float mean = a.mean[line], rstd = a.rstd[line];
  float plain = 0, with_normed = 0;
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * kWidth; c < channels; c += kWarp * kWidth) {
    const Pack<kWidth> values = load<kWidth>(x + c), weight = load<kWidth>(a.weight + c),
                       d = load<kWidth>(d_y + c);
    for (int i = 0; i < kWidth; ++i) {
      const float g = d.at[i] * weight.at[i];
      plain += g;
      with_normed += g * ((values.at[i] - mean) * rstd);
    }
  }
  plain = warp_sum(plain);
  with_normed = warp_sum(with_normed);
  if (threadIdx.x != 0) return;
  a.line_scratch[2 * line] = plain / static_cast<float>(channels);
  a.line_scratch[2 * line + 1] = with_normed / static_cast<float>(channels);
}

template <class T, int kWidth>
struct LayerNormColumns {
  static constexpr int kSums = 2;  // d_weight, d_bias
  LayerNormBackward a;
  Pack<kWidth> weight;

  __device__ __forceinline__ void begin(std::int64_t column) { weight = load<kWidth>(a.weight + column); }
  __device__ __forceinline__ void visit(std::int64_t line, std::int64_t column, float (&sums)[2][kWidth]) {
    const std::int64_t at = line_of_whole(a.part, line) * a.part.channels + column;
    const Pack<kWidth> x = load<kWidth>(a.x + line_of_x(a, line) * a.part.channels + column),
                       d = load<kWidth>(static_cast<const T*>(a.d_y) + line * a.part.channels + column);
    const float mean = a.mean[line], rstd = a.rstd[line];
    const float plain = a.line_scratch[2 * line], with_normed = a.line_scratch[2 * line + 1];
    Pack<kWidth> d_x = {};
    if (a.adds) d_x = load<kWidth>(a.d_x + at);
    for (int i = 0; i < kWidth; ++i) {
      const float normed = (x.at[i] - mean) * rstd;
      d_x.at[i] += rstd * (d.at[i] * weight.at[i] - plain - normed * with_normed);
      sums[0][i] += d.at[i] * normed;
      sums[1][i] += d.at[i];
    }
    store(d_x, a.d_x + at);
  }
};

inline Extent blocks_of_lines(const RowPart& part) {
  return {(part.num_rows * part.positions + kLinesOfBlock - 1) / kLinesOfBlock, 1};
}

inline void run_layer_norm(const LayerNorm& a, Stream stream) {
  const bool four = a.part.channels % 4 == 0 && aligned_for_4(a.x, a.weight, a.bias, a.y, a.kept);
  with_type(a.y_type, [&](auto type) {
    with_width(four, [&](auto width) {
      launch("layer_norm", layer_norm_kernel<decltype(type), decltype(width)::value>, blocks_of_lines(a.part),
             {kWarp, kLinesOfBlock}, stream, a);
    });
  });
}

inline void run_layer_norm_backward(const LayerNormBackward& a, Stream stream) {
  const bool four = a.part.channels % 4 == 0 && aligned_for_4(a.x, a.weight, a.d_y, a.d_x);
  with_type(a.y_type, [&](auto type) {
    with_width(four, [&](auto width) {
      using T = decltype(type);
      constexpr int kWidth = decltype(width)::value;
      launch("layer_norm_means", layer_norm_means<T, kWidth>, blocks_of_lines(a.part), {kWarp, kLinesOfBlock},
             stream, a);
      run_columns<kWidth>("layer_norm_backward", LayerNormColumns<T, kWidth>{a, {}},
                          a.part.num_rows * a.part.positions, a.part.channels, a.scratch, stream, a.d_weight,
                          a.d_bias);
    });
  });
}

}  // namespace cosub::kernels
