// LayerNorm (arXiv 1607.06450) of gathered rows. Forward: a warp for a line. Backward, in one pass: some
// warps for a line; each thread has the same columns of all its lines, so that it sums the gradients of
// weight and bias beside d_x.
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

constexpr int kNormThreads = 256;                       // of a block, where a line has no more packs
constexpr int kMostNormWarps = kMostNormPacks / kWarp;  // of a block

/// A thread's pack of a line, and what it needs of the line.
template <class T, int kWidth>
struct NormLine {
  Pack<kWidth> x, d, d_x;
  float mean, rstd;
  std::int64_t at;  // of d_x

  __device__ __forceinline__ void read(const LayerNormBackward& a, std::int64_t line, std::int64_t column) {
    const std::int64_t channels = a.part.channels, of_part = line * channels + column;
    at = line_of_whole(a.part, line) * channels + column;
    x = load<kWidth>(a.x + (a.x_is_kept ? of_part : at));
    d = load<kWidth>(static_cast<const T*>(a.d_y) + of_part);
    if (a.adds) d_x = load<kWidth>(a.d_x + at);
    mean = a.mean[line];
    rstd = a.rstd[line];
  }
};

/// Block: x threads for a line's packs (whole warps), y groups of them, a line each at a time. A block has
/// one piece of the lines (arguments.h, column_pieces) and leaves its sums for weight and bias in scratch.
/// The means over the channels of g and of g * normed, where g = d_y * weight, meet in shared memory, used in
/// turns of two so that one barrier a line does; the next line is on its way meanwhile.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMostNormPacks, 2) layer_norm_backward_kernel(LayerNormBackward a) {
  __shared__ float partial[2][kMostNormWarps][2];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int threads = static_cast<int>(blockDim.x), groups = static_cast<int>(blockDim.y);
  const int warps = threads / kWarp, first_warp = y * warps;
  const std::int64_t lines = a.part.num_rows * a.part.positions, channels = a.part.channels;
  const std::int64_t column = static_cast<std::int64_t>(x) * kWidth;
  const bool active = column < channels;
  const std::int64_t pieces = gridDim.x, length = (lines + pieces - 1) / pieces;
  const std::int64_t begin = blockIdx.x * length, end = begin + length < lines ? begin + length : lines;
  Pack<kWidth> weight = {}, d_weight = {}, d_bias = {};
  for (int i = 0; i < kWidth && active; ++i) weight.at[i] = a.weight[column + i];
  NormLine<T, kWidth> now = {}, next = {};
  if (active && begin + y < end) next.read(a, begin + y, column);
  int turn = 0;
  for (std::int64_t first = begin; first < end; first += groups, turn = 1 - turn) {
    const std::int64_t line = first + y;
    const bool has_line = active && line < end;
    now = next;
    if (active && line + groups < end) next.read(a, line + groups, column);
    Pack<kWidth> normed = {};
    float plain = 0, with_normed = 0;
    if (has_line) {
      for (int i = 0; i < kWidth; ++i) {
        normed.at[i] = (now.x.at[i] - now.mean) * now.rstd;
        const float g = now.d.at[i] * weight.at[i];
        plain += g;
        with_normed += g * normed.at[i];
      }
    }
    plain = warp_sum(plain);
    with_normed = warp_sum(with_normed);
    if (x % kWarp == 0) {
      partial[turn][first_warp + x / kWarp][0] = plain;
      partial[turn][first_warp + x / kWarp][1] = with_normed;
    }
    __syncthreads();
    if (!has_line) continue;
    plain = with_normed = 0;
    for (int warp = first_warp; warp < first_warp + warps; ++warp) {
      plain += partial[turn][warp][0];
      with_normed += partial[turn][warp][1];
    }
    plain /= static_cast<float>(channels);
    with_normed /= static_cast<float>(channels);
    for (int i = 0; i < kWidth; ++i) {
      now.d_x.at[i] += now.rstd * (now.d.at[i] * weight.at[i] - plain - normed.at[i] * with_normed);
      d_weight.at[i] += now.d.at[i] * normed.at[i];
      d_bias.at[i] += now.d.at[i];
    }
    store(now.d_x, a.d_x + now.at);
  }
  if (a.scratch == nullptr) return;
  if (groups > 1) {
    __shared__ float of_groups[2][kNormThreads][kWidth];
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
  const std::int64_t channels = a.part.channels, pieces = column_pieces(a.part.num_rows * a.part.positions);
  const bool four = channels % 4 == 0 && aligned_for_4(a.x, a.d_y, a.d_x, a.scratch);
  const std::int64_t packs = four ? channels / 4 : channels;
  if (packs > kMostNormPacks) throw std::invalid_argument("layer_norm_backward: too many channels");
  const std::int64_t threads = (packs + kWarp - 1) / kWarp * kWarp;
  const Extent block{threads, threads < kNormThreads ? kNormThreads / threads : 1};
  with_type(a.y_type, [&](auto type) {
    with_width(four, [&](auto width) {
      launch("layer_norm_backward", layer_norm_backward_kernel<decltype(type), decltype(width)::value>,
             {pieces, 1}, block, stream, a);
    });
  });
  if (a.scratch == nullptr) return;
  launch_totals(a.scratch, pieces, channels, 2, stream, a.d_weight, a.d_bias);
}

}  // namespace cosub::kernels
