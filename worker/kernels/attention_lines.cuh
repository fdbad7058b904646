// How blocks of four warpgroups, with 64 of 256 lines each, read and write a head's lines, and what they do
// with the one token that may be left over, the last. Shared memory has lines in panels of 16 columns, which
// any width is a multiple of.
#pragma once

#include "worker/kernels/attention_heads.cuh"

namespace cosub::kernels {

struct FourGroups {
  static constexpr unsigned kLines = 256, kGroups = kLines / kGroupLines, kThreads = kGroups * kWarpgroup,
                            kWarps = kThreads / kWarp;
  using Lines = PanelsOf<kTile, kLines>;
};

/// Lane i of four that follow each other from a multiple of four gets at[i] of each, in their order.
__device__ __forceinline__ void transpose_of_four(unsigned (&at)[4]) {
  COSUB_UNROLL
  for (unsigned distance = 2; distance > 0; distance /= 2) {
    const bool upper = (threadIdx.x & distance) != 0;
    COSUB_UNROLL
    for (unsigned i = 0; i < 4; ++i) {
      if ((i & distance) != 0) continue;
      const unsigned got =
          __shfl_xor_sync(0xffffffffu, upper ? at[i] : at[i + distance], static_cast<int>(distance));
      (upper ? at[i] : at[i + distance]) = got;
    }
  }
}

/// The sums of at[i] over the eight lanes that are equal modulo four; lane l gets the one of i = l / 4.
__device__ __forceinline__ float sum_over_lines(float (&at)[8]) {
  COSUB_UNROLL
  for (unsigned half = 4; half > 0; half /= 2) {
    const bool upper = (threadIdx.x & half * 4) != 0;
    COSUB_UNROLL
    for (unsigned i = 0; i < half; ++i) {
      const float got =
          __shfl_xor_sync(0xffffffffu, upper ? at[i] : at[i + half], static_cast<int>(half * 4));
      at[i] = (upper ? at[i + half] : at[i]) + got;
    }
  }
  return at[0];
}

/// A warp's 16 lines of a product's [64, 8 kTiles], times `factor`, as lines [first_line, tokens) of bfloat16
/// `stride` apart. warp_sums: of these over the warp's lines, null: not wanted.
template <int kTiles>
__device__ __forceinline__ void write_lines(const float (&sums)[kTiles][4], float factor, unsigned first_line,
                                            unsigned tokens, Bf16* to, int stride, float* warp_sums) {
  static_assert(kTiles == 8 || kTiles == 10);
  const unsigned lane = thread_anew() % kWarp, line = first_line + lane / 4;
  to += static_cast<int>(line) * stride;
  const auto pair = [&](int tile, int half) {
    return pair_of(factor * sums[tile][2 * half], factor * sums[tile][2 * half + 1]);
  };
  const auto put = [&](const unsigned(&piece)[4], unsigned half, unsigned tile, float(&of_tile)[8]) {
    if (line + half * 8 >= tokens) return;
    COSUB_UNROLL
    for (unsigned i = 0; i < 4; ++i) {
      of_tile[2 * i] += low_of(piece[i]);
      of_tile[2 * i + 1] += high_of(piece[i]);
    }
    store_16(to + static_cast<int>(half * 8) * stride + tile * 8, piece);
  };
  COSUB_UNROLL
  for (int tile = 0; tile < 8; tile += 4) {
    float of_tile[8] = {};
    COSUB_UNROLL
    for (int half = 0; half < 2; ++half) {
      unsigned piece[4] = {pair(tile, half), pair(tile + 1, half), pair(tile + 2, half),
                           pair(tile + 3, half)};
      transpose_of_four(piece);
      put(piece, half, tile + lane % 4, of_tile);
    }
    if (warp_sums == nullptr) continue;
    const float sum = sum_over_lines(of_tile);
    warp_sums[(tile + lane % 4) * 8 + lane / 4] = sum;
  }
  if constexpr (kTiles == 10) {
    float of_tile[8] = {};
    unsigned piece[4] = {pair(8, 0), pair(9, 0), pair(8, 1), pair(9, 1)};
    transpose_of_four(piece);
    put(piece, lane % 4 / 2, 8 + lane % 2, of_tile);
    if (warp_sums == nullptr) return;
    float sum = sum_over_lines(of_tile);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (lane % 4 < 2) warp_sums[(8 + lane % 2) * 8 + lane / 4] = sum;
  }
}

/// Some of a head's lines and columns, both multiples of 16.
template <unsigned kFirstLine, unsigned kLines, unsigned kFirstColumn, unsigned kColumns>
struct PartOfLines {
  static constexpr unsigned kPanels = kColumns / kTile, kPieces = kLines * kPanels * 2;  // of 16 bytes

  /// From memory where lines lie `stride` apart; zero from `valid` on. By the whole block. where(line,
  /// column) is their place in shared memory. Eight threads have four lines of a panel, which is all banks.
  template <class Where>
  __device__ __forceinline__ static void fetch(const Where& where, const Bf16* from, int stride,
                                               unsigned valid) {
    const unsigned thread = thread_anew();
    COSUB_UNROLL
    for (unsigned first = 0; first < kPieces; first += FourGroups::kThreads) {
      const unsigned piece = first + thread, four = piece / 8,
                     line = kFirstLine + four / kPanels * 4 + piece % 8 / 2,
                     column = kFirstColumn + four % kPanels * kTile + piece % 2 * 8;
      if (first + FourGroups::kThreads > kPieces && piece >= kPieces) break;
      copy_16_async(where(line, column), from + static_cast<int>(line) * stride + static_cast<int>(column),
                    line < valid);
    }
  }
};

/// A vector of kWidth values, or zeros, by as many threads as it has pieces, from `first_thread` on.
template <unsigned kWidth>
__device__ __forceinline__ void fetch_vector(unsigned first_thread, const Bf16* from, Bf16* to,
                                             bool is_there) {
  const unsigned piece = threadIdx.x - first_thread;
  if (piece < kWidth / 8) copy_16_async(to + piece * 8, from + piece * 8, is_there);
}

/// sum += pairs of a times those of b
__device__ __forceinline__ void add_pairs(float& sum, unsigned a, unsigned b) {
  sum += low_of(a) * low_of(b);
  sum += high_of(a) * high_of(b);
}

/// The product of two vectors of kWidth values in shared memory, in all lanes of a warp.
template <unsigned kWidth>
__device__ __forceinline__ float vector_product(const Bf16* x, const Bf16* y) {
  float sum = 0;
  COSUB_UNROLL
  for (unsigned first = 0; first < kWidth; first += 2 * kWarp) {
    const unsigned column = first + threadIdx.x % kWarp * 2;
    if (first + 2 * kWarp > kWidth && column >= kWidth) break;
    add_pairs(sum, *reinterpret_cast<const unsigned*>(x + column),
              *reinterpret_cast<const unsigned*>(y + column));
  }
  return warp_sum(sum);
}

/// A warp's weights of its lines, of l / 4 and that 8 further in lane l, as the first line of an operand for
/// add_tile whose other lines are 0.
__device__ __forceinline__ void as_first_line(const float (&weights)[2], unsigned (&operand)[4]) {
  const unsigned lane = threadIdx.x % kWarp, column = lane % 4 * 2;
  COSUB_UNROLL
  for (int i = 0; i < 2; ++i) {
    const float first = __shfl_sync(0xffffffffu, weights[i], static_cast<int>(column * 4)),
                second = __shfl_sync(0xffffffffu, weights[i], static_cast<int>(column * 4 + 4));
    operand[2 * i] = lane < 4 ? pair_of(first, second) : 0;
    operand[2 * i + 1] = 0;
  }
}

/// The weighted sums of a warp's lines, from `line` of the panels on: those by the operand's first line to
/// `first`, those by its second to `second`, which may be null.
template <unsigned kWidth, class Panels>
__device__ __forceinline__ void sum_of_lines(const unsigned (&weights)[4], Panels panels, unsigned line,
                                             float* first, float* second = nullptr) {
  const unsigned lane = threadIdx.x % kWarp;
  COSUB_UNROLL
  for (unsigned column = 0; column < kWidth; column += kTile) {
    unsigned of[4];
    load_across(of, panels, line, column);
    COSUB_UNROLL
    for (unsigned half = 0; half < 2; ++half) {
      float sums[4] = {};
      add_tile(sums, weights, of[2 * half], of[2 * half + 1]);
      if (lane < (second == nullptr ? 4 : 8))
        store(Pack<2>{{sums[0], sums[1]}}, (lane < 4 ? first : second) + column + half * 8 + lane % 4 * 2);
    }
  }
}

/// products += a warp's lines, 16 columns of which are in the tile, times the vector's from `column` on, in
/// shared memory: of line l / 4 in [0] and [1], of that 8 further in [2] and [3].
__device__ __forceinline__ void add_vector_product(float (&products)[4], const unsigned (&tile)[4],
                                                   const Bf16* vector, unsigned column) {
  const auto pair = [&](unsigned at) { return *reinterpret_cast<const unsigned*>(vector + at); };
  const unsigned at = column + threadIdx.x % 4 * 2;
  add_tile(products, tile, pair(at), pair(at + 8));
}

}  // namespace cosub::kernels
