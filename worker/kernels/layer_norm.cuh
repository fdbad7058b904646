// LayerNorm (arXiv 1607.06450) of gathered rows. Forward: a warp for a line. Backward, in one pass: some
// warps for some lines at a time; each thread has the same columns of all its lines, so that it sums the
// gradients of weight and bias beside d_x.
#pragma once

#include <stdexcept>

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

constexpr int kGroupLines = 4;     // that a group of warps takes at a time
constexpr int kNormThreads = 256;  // of a block, where a line has no more packs

/// Block: x threads for a line's packs (whole warps), y groups of them. The means over the channels of g and
/// of g * normed, where g = d_y * weight, are summed over warps through shared memory, which is used in turns
/// of two: one barrier a turn.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMostNormPacks) layer_norm_backward_kernel(LayerNormBackward a) {
  constexpr int kMostWarps = kMostNormPacks / kWarp;
  __shared__ float partial[2][kMostWarps][kGroupLines][2];
  __shared__ float of_groups[2][kNormThreads][kWidth];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int threads = static_cast<int>(blockDim.x), groups = static_cast<int>(blockDim.y);
  const int warps = threads / kWarp, first_warp = y * warps, warp = first_warp + x / kWarp;
  const std::int64_t lines = a.part.num_rows * a.part.positions, channels = a.part.channels;
  const std::int64_t column = static_cast<std::int64_t>(x) * kWidth;
  const bool active = column < channels;
  const std::int64_t pieces = gridDim.x, length = (lines + pieces - 1) / pieces;
  const std::int64_t begin = blockIdx.x * length, end = begin + length < lines ? begin + length : lines;
  Pack<kWidth> weight = {}, d_weight = {}, d_bias = {};
  for (int i = 0; i < kWidth && active; ++i) weight.at[i] = a.weight[column + i];
  int turn = 0;
  for (std::int64_t next = begin; next < end; next += kGroupLines * groups) {
    const std::int64_t first = next + y * kGroupLines;
    Pack<kWidth> normed[kGroupLines] = {}, d[kGroupLines] = {}, d_x[kGroupLines] = {};
    float rstd[kGroupLines] = {};
    std::int64_t at[kGroupLines] = {};
    for (int l = 0; l < kGroupLines; ++l) {
      const std::int64_t line = first + l;
      if (line >= end || !active) continue;
      at[l] = line_of_whole(a.part, line) * channels + column;
      normed[l] = load<kWidth>(a.x + (a.x_is_kept ? line * channels + column : at[l]));
      d[l] = load<kWidth>(static_cast<const T*>(a.d_y) + line * channels + column);
      if (a.adds) d_x[l] = load<kWidth>(a.d_x + at[l]);
      rstd[l] = a.rstd[line];
      const float mean = a.mean[line];
      for (int i = 0; i < kWidth; ++i) normed[l].at[i] = (normed[l].at[i] - mean) * rstd[l];
    }
    for (int l = 0; l < kGroupLines; ++l) {
      float plain = 0, with_normed = 0;
      for (int i = 0; i < kWidth; ++i) {
        const float g = d[l].at[i] * weight.at[i];
        plain += g;
        with_normed += g * normed[l].at[i];
      }
      plain = warp_sum(plain);
      with_normed = warp_sum(with_normed);
      if (x % kWarp != 0) continue;
      partial[turn][warp][l][0] = plain;
      partial[turn][warp][l][1] = with_normed;
    }
    __syncthreads();
    for (int l = 0; l < kGroupLines; ++l) {
      if (first + l >= end || !active) continue;
      float plain = 0, with_normed = 0;
      for (int other = first_warp; other < first_warp + warps; ++other) {
        plain += partial[turn][other][l][0];
        with_normed += partial[turn][other][l][1];
      }
      plain /= static_cast<float>(channels);
      with_normed /= static_cast<float>(channels);
      for (int i = 0; i < kWidth; ++i) {
        d_x[l].at[i] += rstd[l] * (d[l].at[i] * weight.at[i] - plain - normed[l].at[i] * with_normed);
        d_weight.at[i] += d[l].at[i] * normed[l].at[i];
        d_bias.at[i] += d[l].at[i];
      }
      store(d_x[l], a.d_x + at[l]);
    }
    turn = 1 - turn;
  }
  if (a.scratch == nullptr) return;
  if (groups > 1) {
    for (int i = 0; i < kWidth; ++i) {
      of_groups[0][y * threads + x][i] = d_weight.at[i];
      of_groups[1][y * threads + x][i] = d_bias.at[i];
    }
    __syncthreads();
    if (y != 0) return;
    for (int other = 1; other < groups; ++other) {
      for (int i = 0; i < kWidth; ++i) {
        d_weight.at[i] += of_groups[0][other * threads + x][i];
        d_bias.at[i] += of_groups[1][other * threads + x][i];
      }
    }
  }
  if (!active) return;
  store(d_weight, a.scratch + blockIdx.x * channels + column);
  store(d_bias, a.scratch + (pieces + blockIdx.x) * channels + column);
}

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
  const std::int64_t lines = a.part.num_rows * a.part.positions, channels = a.part.channels;
  const bool four = channels % 4 == 0 && aligned_for_4(a.x, a.d_y, a.d_x, a.scratch);
  const std::int64_t packs = four ? channels / 4 : channels;
  if (packs > kMostNormPacks) throw std::invalid_argument("layer_norm_backward: too many channels");
  const std::int64_t threads = (packs + kWarp - 1) / kWarp * kWarp,
                     groups = threads < kNormThreads ? kNormThreads / threads : 1;
  const std::int64_t pieces = column_pieces(lines);
  with_type(a.y_type, [&](auto type) {
    with_width(four, [&](auto width) {
      launch("layer_norm_backward", layer_norm_backward_kernel<decltype(type), decltype(width)::value>,
             {pieces, 1}, {threads, groups}, stream, a);
    });
  });
  if (a.scratch == nullptr) return;
  launch_totals(a.scratch, pieces, channels, 2, stream, a.d_weight, a.d_bias);
}

}  // namespace cosub::kernels
