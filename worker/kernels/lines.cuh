// Lines of a matrix [lines, channels] in the registers of a warp, so that many loads are on their way at once
// and sums over a line stay in the warp. A pass that also sums terms over the lines, for each column, has
// some of the lines in each block, as the shape alone decides, and leaves the block's sums in scratch
// (launch_totals in columns.cuh adds them up).
#pragma once

#include "worker/kernels/columns.cuh"

namespace cosub::kernels {

/// A thread's share of a line that kThreads have, whole warps: the packs threadIdx.x, threadIdx.x + kThreads,
/// ... of as many as there are, at most kPacks.
template <int kWidth, int kPacks, int kThreads = kWarp>
struct LinePacks {
  static constexpr std::int64_t kColumns = kThreads * kWidth * kPacks;  // of all of them
  Pack<kWidth> at[kPacks] = {};

  /// function(pack, its first column) for those below `columns`.
  template <class Function>
  __device__ __forceinline__ void each(int columns, const Function& function) {
    for (int p = 0; p < kPacks; ++p) {
      const int column = (p * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
      if (column < columns) function(at[p], column);
    }
  }
  template <class T>
  __device__ __forceinline__ void read(const T* from, int columns) {
    each(columns, [&](Pack<kWidth>& pack, int column) { pack = load<kWidth>(from + column); });
  }
  template <class T>
  __device__ __forceinline__ void write(T* to, int columns) {
    each(columns, [&](const Pack<kWidth>& pack, int column) { store(pack, to + column); });
  }
};

/// Adds up what the block's threads have, in the order of threadIdx.y, which is below kGroups; all must call,
/// and once. The sums of mine[s] go to scratch + s * stride.
template <int kGroups, int kSums, int kWidth, int kPacks, int kThreads>
__device__ __forceinline__ void leave_sums(LinePacks<kWidth, kPacks, kThreads> (&mine)[kSums], int columns,
                                           float* scratch, std::int64_t stride) {
  __shared__ Packed<float, kWidth> shared[kSums][kPacks * kThreads];
  for (int turn = 0; turn < kGroups; ++turn) {
    if (turn == static_cast<int>(threadIdx.y)) {
      for (int s = 0; s < kSums; ++s) {
        LinePacks<kWidth, kPacks, kThreads> before;
        if (turn > 0) before.read(shared[s][0].at, columns);
        for (int p = 0; p < kPacks; ++p)
          for (int i = 0; i < kWidth; ++i) mine[s].at[p].at[i] += before.at[p].at[i];
        mine[s].write(turn + 1 < kGroups ? shared[s][0].at : scratch + s * stride, columns);
      }
    }
    __syncthreads();
  }
}

}  // namespace cosub::kernels
