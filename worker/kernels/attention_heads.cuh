// Where a head's lines of queries, keys, values and results lie, for the kernels of attention.
#pragma once

#include "worker/kernels/columns.cuh"
#include "worker/kernels/warpgroup_matrix.cuh"

namespace cosub::kernels {

constexpr float kLog2E = 1.4426950408889634f, kLnOf2 = 0.6931471805599453f;
constexpr unsigned kTile = 16;        // lines that a product sums over, or a warp has of its result
constexpr unsigned kGroupLines = 64;  // keys of a warpgroup, and queries

/// Lines of queries, keys and values are so far apart, and those of results.
__device__ __forceinline__ int line_stride(const AttentionSizes& a) {
  return static_cast<int>(3 * a.heads * a.width);
}
__device__ __forceinline__ int out_stride(const AttentionSizes& a) {
  return static_cast<int>(a.heads * a.width);
}

/// Where the lines of head number `index` of all begin in qkv, out and log_sums.
struct HeadOf {
  __device__ __forceinline__ HeadOf(const AttentionSizes& a, unsigned index)
      : row(index / static_cast<unsigned>(a.heads)), head(index % static_cast<unsigned>(a.heads)) {}

  /// Of queries, keys or values: part 0, 1 or 2.
  __device__ __forceinline__ std::int64_t first_line(const AttentionSizes& a, int part) const {
    return row * a.tokens * line_stride(a) + part * out_stride(a) + head * a.width;
  }
  __device__ __forceinline__ std::int64_t first_out(const AttentionSizes& a) const {
    return row * a.tokens * out_stride(a) + head * a.width;
  }
  __device__ __forceinline__ std::int64_t first_sum(const AttentionSizes& a) const {
    return (row * a.heads + head) * a.tokens;
  }
  /// In scratch.
  __device__ __forceinline__ std::int64_t first_sums(const AttentionSizes& a, unsigned part) const {
    return ((row * 3 + part) * a.heads + head) * a.width;
  }

  unsigned row, head;
};

/// sums [64, 8 kParts] = 64 lines of kWidth columns times 8 kParts others, as a group of products.
template <unsigned kWidth, int kParts, class First, class Second>
__device__ __forceinline__ void multiply_lines_of(float (&sums)[kParts][4], Operand<First> a,
                                                  Operand<Second> b) {
  COSUB_UNROLL
  for (unsigned column = 0; column < kWidth; column += kTile)
    multiply_panels(sums, further(a, 0, column), further(b, 0, column), column > 0);
  end_group_of_products();
}

}  // namespace cosub::kernels
