// A pass over a matrix [lines, channels] that also sums terms over the lines, for each column, in an order
// that only the shape decides: a block takes 32 packs of columns and one piece of the lines (arguments.h,
// column_pieces) and leaves its sums in scratch; a second launch adds the pieces up.
#pragma once

#include "worker/kernels/numbers.cuh"

namespace cosub::kernels {

constexpr int kColumnThreads = 32, kLineThreads = 8;  // of a block
constexpr int kPieceThreads = 32;                     // of a block of the second launch

/// Body: kLinesAtOnce, how many lines are on their way from memory to a thread at a time; begin(column) for
/// the kWidth columns from there; then for some lines read(line, column), an In, and use(in, line, column,
/// sums), which adds to sums[i]. Sums are dropped where `scratch` is null.
template <int kWidth, class Body>
__global__ void column_pass(Body body, std::int64_t lines, std::int64_t channels, float* scratch) {
  constexpr int kColumns = kColumnThreads * kWidth, kAtOnce = Body::kLinesAtOnce;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kColumnThreads + x) * kWidth;
  const std::int64_t pieces = gridDim.y, length = (lines + pieces - 1) / pieces;
  const std::int64_t begin = blockIdx.y * length, end = begin + length < lines ? begin + length : lines;
  float sums[kWidth] = {};
  if (column < channels) {
    body.begin(column);
    for (std::int64_t first = begin + y; first < end; first += kLineThreads * kAtOnce) {
      typename Body::In in[kAtOnce];
      for (int l = 0; l < kAtOnce; ++l)
        if (first + l * kLineThreads < end) in[l] = body.read(first + l * kLineThreads, column);
      for (int l = 0; l < kAtOnce; ++l)
        if (first + l * kLineThreads < end) body.use(in[l], first + l * kLineThreads, column, sums);
    }
  }
  if (scratch == nullptr) return;
  __shared__ float shared[kLineThreads][kColumns];
  for (int i = 0; i < kWidth; ++i) shared[y][i * kColumnThreads + x] = sums[i];
  __syncthreads();
  if (y != 0 || column >= channels) return;
  for (int i = 0; i < kWidth; ++i) {
    float sum = 0;
    for (int from = 0; from < kLineThreads; ++from) sum += shared[from][i * kColumnThreads + x];
    scratch[blockIdx.y * channels + column + i] = sum;
  }
}

/// total[column] = the sum over pieces of scratch [sums, pieces, channels]; block.y: which of the sums.
static __global__ void column_totals(const float* scratch, std::int64_t pieces, std::int64_t channels,
                                     float* first, float* second) {
  __shared__ float shared[kPieceThreads][kColumnThreads];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumnThreads + x;
  const float* from = scratch + blockIdx.y * pieces * channels;
  float sum = 0;
  if (column < channels) {
    for (std::int64_t piece = y; piece < pieces; piece += kPieceThreads)
      sum += from[piece * channels + column];
  }
  shared[y][x] = sum;
  __syncthreads();
  if (y != 0 || column >= channels) return;
  for (int other = 1; other < kPieceThreads; ++other) sum += shared[other][x];
  float* total = blockIdx.y == 0 ? first : second;
  if (total != nullptr) total[column] = sum;
}

/// The second launch: the first sums to `first`, the second to `second`, [channels] each; either may be null.
/// Static as the kernel is, which units for several GPUs each have their own of.
static inline void launch_totals(const float* scratch, std::int64_t pieces, std::int64_t channels, int sums,
                                 Stream stream, float* first, float* second = nullptr) {
  launch("column_totals", column_totals, {(channels + kColumnThreads - 1) / kColumnThreads, sums},
         {kColumnThreads, kPieceThreads}, stream, scratch, pieces, channels, first, second);
}

/// Both launches; `total`: the body's sums [channels], null: not wanted.
template <int kWidth, class Body>
void run_columns(const char* name, const Body& body, std::int64_t lines, std::int64_t channels,
                 float* scratch, Stream stream, float* total = nullptr) {
  constexpr std::int64_t kColumns = kColumnThreads * kWidth;
  const std::int64_t pieces = column_pieces(lines);
  launch(name, column_pass<kWidth, Body>, {(channels + kColumns - 1) / kColumns, pieces},
         {kColumnThreads, kLineThreads}, stream, body, lines, channels, total != nullptr ? scratch : nullptr);
  if (total != nullptr) launch_totals(scratch, pieces, channels, 1, stream, total);
}

}  // namespace cosub::kernels
