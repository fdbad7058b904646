// LayerNorm (arXiv 1607.06450) of gathered rows, a warp for a line. In the backward pass a warp takes line
// after line, so that it sums the gradients of weight and bias beside d_x.
#pragma once

#include <stdexcept>

#include "worker/kernels/lines.cuh"

namespace cosub::kernels {

constexpr int kLineWarps = 4;  // of a block of the forward pass

template <class T, int kWidth, int kPacks>
__global__ void layer_norm_kernel(LayerNorm a) {
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * kLineWarps + threadIdx.y;
  const int channels = static_cast<int>(a.part.channels);
  if (line >= a.part.num_rows * a.part.positions) return;  // the whole warp
  LinePacks<kWidth, kPacks> x;
  x.read(a.x + line_of_whole(a.part, line) * channels, channels);
  float sum = 0;
  for (const Pack<kWidth>& pack : x.at)
    for (const float value : pack.at) sum += value;
  const float mean = warp_sum(sum) / static_cast<float>(channels);
  float squares = 0;
  x.each(channels, [&](Pack<kWidth>& pack, int /*column*/) {
    for (float& value : pack.at) {
      value -= mean;
      squares += value * value;
    }
  });
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(channels) + a.eps);
  x.each(channels, [&](Pack<kWidth>& pack, int column) {
    for (float& value : pack.at) value *= rstd;
    if (a.normed != nullptr) store(pack, static_cast<T*>(a.normed) + line * channels + column);
    const Pack<kWidth> weight = load<kWidth>(a.weight + column), bias = load<kWidth>(a.bias + column);
    for (int i = 0; i < kWidth; ++i) pack.at[i] = pack.at[i] * weight.at[i] + bias.at[i];
    store(pack, static_cast<T*>(a.y) + line * channels + column);
  });
  if (threadIdx.x != 0) return;
  a.mean[line] = mean;
  a.rstd[line] = rstd;
}

/// How the backward pass shares out lines of kPacks packs for each lane of a warp, as registers allow:
/// threads of a line, lines of a block at a time, blocks of a multiprocessor.
template <int kWidth, int kPacks>
struct NormShares {
  static constexpr int kFloats = kWidth * kPacks;
  static constexpr int kThreads = kFloats > 40 ? 2 * kWarp : kWarp;
  static constexpr int kLines = kFloats <= 4    ? 16
                                : kFloats <= 8  ? 12
                                : kFloats <= 12 ? 10
                                : kFloats <= 24 ? 6
                                : kFloats <= 40 ? 8
                                                : 4;
  static constexpr int kBlocks = kFloats <= 24 ? 2 : 1;
  static constexpr int kPacksOfThread = kPacks * kWarp / kThreads;
  using Line = LinePacks<kWidth, kPacksOfThread, kThreads>;
};

/// The sums of two values over a line's threads; all of the block must call.
template <int kThreads, int kLines>
__device__ __forceinline__ void sum_over_line(float& first, float& second) {
  first = warp_sum(first);
  second = warp_sum(second);
  if constexpr (kThreads > kWarp) {
    constexpr int kWarps = kThreads / kWarp;
    __shared__ float sums[kLines][kWarps][2];
    float(&mine)[kWarps][2] = sums[threadIdx.y];
    if (threadIdx.x % kWarp == 0) {
      mine[threadIdx.x / kWarp][0] = first;
      mine[threadIdx.x / kWarp][1] = second;
    }
    __syncthreads();
    first = second = 0;
    for (int warp = 0; warp < kWarps; ++warp) {
      first += mine[warp][0];
      second += mine[warp][1];
    }
    __syncthreads();
  }
}

/// d_x takes the means over the channels of g and of g * normed, where g = d_y * weight.
template <class T, int kWidth, int kPacks, bool kFromNormed, class Shares = NormShares<kWidth, kPacks>>
__global__ void __launch_bounds__(Shares::kThreads* Shares::kLines, Shares::kBlocks)
    layer_norm_backward_kernel(LayerNormBackward a) {
  using Line = typename Shares::Line;
  const std::int64_t lines = a.part.num_rows * a.part.positions, pieces = gridDim.x;
  const int channels = static_cast<int>(a.part.channels);
  Line sums[2];  // of weight and bias
  for (std::int64_t first = blockIdx.x * Shares::kLines; first < lines; first += pieces * Shares::kLines) {
    const bool has_line = first + threadIdx.y < lines;
    if (Shares::kThreads == kWarp && !has_line) break;  // otherwise others wait for it
    const std::int64_t line = has_line ? first + threadIdx.y : first;
    const int columns = has_line ? channels : 0;
    const std::int64_t of_part = line * channels, of_whole = line_of_whole(a.part, line) * channels;
    Line normed, d, d_x, weight;
    if constexpr (kFromNormed) {
      normed.read(static_cast<const T*>(a.normed) + of_part, columns);
    } else {
      normed.read(a.x + of_whole, columns);
    }
    d.read(static_cast<const T*>(a.d_y) + of_part, columns);
    if (a.adds) d_x.read(a.d_x + of_whole, columns);
    const float rstd = a.rstd[line];
    if constexpr (!kFromNormed) {
      const float mean = a.mean[line];
      for (Pack<kWidth>& pack : normed.at)
        for (float& value : pack.at) value = (value - mean) * rstd;
    }
    weight.read(a.weight, columns);
    float mean_g = 0, mean_g_normed = 0;
    for (int p = 0; p < Shares::kPacksOfThread; ++p) {
      for (int i = 0; i < kWidth; ++i) {
        const float d_y = d.at[p].at[i], g = d_y * weight.at[p].at[i];
        mean_g += g;
        mean_g_normed += g * normed.at[p].at[i];
        sums[0].at[p].at[i] += d_y * normed.at[p].at[i];
        sums[1].at[p].at[i] += d_y;
      }
    }
    sum_over_line<Shares::kThreads, Shares::kLines>(mean_g, mean_g_normed);
    mean_g /= static_cast<float>(channels);
    mean_g_normed /= static_cast<float>(channels);
    for (int p = 0; p < Shares::kPacksOfThread; ++p) {
      for (int i = 0; i < kWidth; ++i) {
        const float g = d.at[p].at[i] * weight.at[p].at[i];
        d_x.at[p].at[i] += rstd * (g - mean_g - normed.at[p].at[i] * mean_g_normed);
      }
    }
    d_x.write(a.d_x + of_whole, columns);
  }
  if (a.scratch == nullptr) return;
  leave_sums<Shares::kLines>(sums, channels, a.scratch + blockIdx.x * channels, pieces * channels);
}

/// function(std::integral_constant of a pack's width, of a lane's packs): few such pairs do for all channels.
template <class Function>
void with_packs(std::int64_t channels, bool four, const Function& function) {
  const std::int64_t packs = four ? channels / 4 : channels;
  if (packs > kMostNormPacks) throw std::invalid_argument("LayerNorm: too many channels");
  constexpr std::integral_constant<int, kMostNormPacks / kWarp> most;
  if (!four) return function(std::integral_constant<int, 1>{}, most);
  const auto call = [&](auto count) { function(std::integral_constant<int, 4>{}, count); };
  if (packs <= kWarp) return call(std::integral_constant<int, 1>{});
  if (packs <= 2 * kWarp) return call(std::integral_constant<int, 2>{});
  if (packs <= 3 * kWarp) return call(std::integral_constant<int, 3>{});
  if (packs <= 6 * kWarp) return call(std::integral_constant<int, 6>{});
  if (packs <= 8 * kWarp) return call(std::integral_constant<int, 8>{});
  if (packs <= 10 * kWarp) return call(std::integral_constant<int, 10>{});
  call(most);
}

inline void run_layer_norm(const LayerNorm& a, Stream stream) {
  const std::int64_t lines = a.part.num_rows * a.part.positions;
  const bool four = a.part.channels % 4 == 0 && aligned_for_4(a.x, a.weight, a.bias, a.y, a.normed);
  with_type(a.y_type, [&](auto type) {
    with_packs(a.part.channels, four, [&](auto width, auto packs) {
      launch("layer_norm", layer_norm_kernel<decltype(type), decltype(width)::value, decltype(packs)::value>,
             {(lines + kLineWarps - 1) / kLineWarps, 1}, {kWarp, kLineWarps}, stream, a);
    });
  });
}

inline void run_layer_norm_backward(const LayerNormBackward& a, Stream stream) {
  const std::int64_t lines = a.part.num_rows * a.part.positions, channels = a.part.channels;
  const bool four = channels % 4 == 0 && aligned_for_4(a.x, a.normed, a.weight, a.d_y, a.d_x, a.scratch);
  with_type(a.y_type, [&](auto type) {
    with_packs(channels, four, [&](auto width, auto packs) {
      using T = decltype(type);
      constexpr int kWidth = decltype(width)::value, kPacks = decltype(packs)::value;
      using Shares = NormShares<kWidth, kPacks>;
      const std::int64_t pieces = (column_pieces(lines) * Shares::kBlocks + 3) / 4;
      launch("layer_norm_backward",
             a.normed != nullptr ? layer_norm_backward_kernel<T, kWidth, kPacks, true>
                                 : layer_norm_backward_kernel<T, kWidth, kPacks, false>,
             {pieces, 1}, {Shares::kThreads, Shares::kLines}, stream, a);
      if (a.scratch != nullptr) launch_totals(a.scratch, pieces, channels, 2, stream, a.d_weight, a.d_bias);
    });
  });
}

}  // namespace cosub::kernels
