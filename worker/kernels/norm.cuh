// The L2 norm of a flat vector in double, in an order that only its length decides: a sum for each block,
// then their sum by one block.
#pragma once

#include "worker/kernels/update.cuh"

namespace cosub::kernels {

constexpr int kNormWarps = kUpdateThreads / kWarp;

/// The sum over the block's threads, in thread 0.
__device__ __forceinline__ double block_sum(double value) {
  __shared__ double warp_sums[kNormWarps];
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) warp_sums[threadIdx.x / kWarp] = value;
  __syncthreads();
  double sum = 0;
  if (threadIdx.x == 0)
    for (int warp = 0; warp < kNormWarps; ++warp) sum += warp_sums[warp];
  return sum;
}

struct SquaresVisitor {
  const float* values;
  double sum;
  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) {
    const Pack<kWidth> pack = load<kWidth>(values + at);
    for (int i = 0; i < kWidth; ++i) {
      const double value = static_cast<double>(pack.at[i]);
      sum += value * value;
    }
  }
};

static __global__ void norm_squares(Norm a) {
  SquaresVisitor squares{a.values, 0};
  over_elements_of_grid(0, a.size, aligned_for_4(a.values), squares);
  const double sum = block_sum(squares.sum);
  if (threadIdx.x == 0) a.scratch[blockIdx.x] = sum;
}

static __global__ void norm_root(Norm a, std::int64_t num_blocks) {
  double sum = 0;
  for (std::int64_t block = threadIdx.x; block < num_blocks; block += kUpdateThreads) sum += a.scratch[block];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *a.norm = sqrt(sum);
}

inline void run_norm(const Norm& a, Stream stream) {
  const std::int64_t num_blocks = blocks_of_elements(a.size).x;
  launch("norm_squares", norm_squares, {num_blocks, 1}, {kUpdateThreads, 1}, stream, a);
  launch("norm_root", norm_root, {1, 1}, {kUpdateThreads, 1}, stream, a, num_blocks);
}

}  // namespace cosub::kernels
