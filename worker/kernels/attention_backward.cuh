// The gradients of attention: the weights are made anew from the sums that the forward pass left
// (FlashAttention-2, arXiv 2307.08691). A block takes one head of one row after the other; a warpgroup has 64
// keys of it and goes over all queries, so that the gradients of its keys and values stay in registers. Those
// of the scores go to shared memory, from which each warpgroup makes those of 64 queries, while what the next
// head needs is on its way.
#pragma once

#include <stdexcept>

#include "worker/kernels/attention_backward_wide.cuh"

namespace cosub::kernels {

constexpr unsigned kPanelColumns = 64;

/// Sizes for at most kTiles tiles of tokens.
template <unsigned kTiles>
struct GradientShape {
  static constexpr unsigned kLines = kTiles * kTile, kGroups = (kLines + kGroupLines - 1) / kGroupLines;
  using Panel = PanelsOf<kPanelColumns, kLines>;
  static constexpr unsigned kThreads = kGroups * kWarpgroup, kWarps = kThreads / kWarp;
  static constexpr unsigned kBlocks = kGroups > 2 ? 1 : 4 / kGroups;
  // Pieces of 16 bytes in which a block reads lines, each thread the same one of some lines.
  static constexpr unsigned kPieces = kPanelColumns / 8, kLinesAtOnce = kThreads / kPieces;
  static constexpr unsigned kReads = (kLines + kLinesAtOnce - 1) / kLinesAtOnce;
};

/// What a block has in shared memory: lines of keys, values, queries and the result's gradient; gradients of
/// scores, for each 64 queries a panel with a line for each key; for each query log2 of its sum, and result
/// times gradient; sums of the gradients of queries and of values over each warp's lines. Products read lines
/// past a panel's last, whose results nobody uses.
template <class Shape>
struct GradientMemory {
  static constexpr unsigned kLines = Shape::kLines, kSums = 2;
  using Panel = typename Shape::Panel;
  using Scores = Panel;
  static constexpr std::size_t kBytes = (4 + Shape::kGroups) * Panel::bytes(kPanelColumns) +
                                        (2 * kLines + Shape::kWarps * kSums * kPanelColumns) * sizeof(float);

  __device__ __forceinline__ explicit GradientMemory(unsigned char* begin)
      : k{reinterpret_cast<Bf16*>(begin)},
        v{k.at(kLines, 0)},
        q{v.at(kLines, 0)},
        d_out{q.at(kLines, 0)},
        d_scores{d_out.at(kLines, 0)},
        log_sums(reinterpret_cast<float*>(d_scores.at(Shape::kGroups * kLines, 0))),
        products(log_sums + kLines),
        sums(products + kLines) {}

  __device__ __forceinline__ Operand<Panel> queries_from(unsigned query) const {
    return further(Operand(q), query);
  }
  __device__ __forceinline__ Operand<Panel> d_out_from(unsigned query) const {
    return further(Operand(d_out), query);
  }
  __device__ __forceinline__ Scores d_scores_of(unsigned query) const {
    return {d_scores.at(query / kGroupLines * kLines, 0)};
  }

  __device__ __forceinline__ void before_scores_to(unsigned /*query*/) const {}

  /// A warp's, of queries (0) or values (1).
  __device__ __forceinline__ float* sums_of(unsigned warp, unsigned which) const {
    return sums + (warp * kSums + which) * kPanelColumns;
  }

  Panel k, v, q, d_out, d_scores;
  float *log_sums, *products, *sums;
};

/// From memory where they lie `stride` apart; zero from `valid` on. By the whole block.
template <class Shape>
__device__ __forceinline__ void fetch_lines(const typename Shape::Panel& panel, const Bf16* from, int stride,
                                            unsigned valid) {
  const unsigned first = threadIdx.x / Shape::kPieces, column = threadIdx.x % Shape::kPieces * 8;
  from += static_cast<int>(first) * stride + static_cast<int>(column);
  Bf16* const to = panel.at(first, column);  // the same place in each line that is a multiple of 8 further
  COSUB_UNROLL
  for (unsigned i = 0; i < Shape::kReads; ++i) {
    const unsigned line = i * Shape::kLinesAtOnce;
    if (line + Shape::kLinesAtOnce <= Shape::kLines || first + line < Shape::kLines)
      copy_16_async(to + line * kPanelColumns, from + static_cast<int>(line) * stride, first + line < valid);
  }
}

/// products = for each line the sum of a b, the threads of a line together; past the last: 0.
template <class Shape>
__device__ __forceinline__ void multiply_lines(const Bf16* a, const Bf16* b, int stride, unsigned valid,
                                               float* products) {
  const unsigned first = threadIdx.x / Shape::kPieces;
  const int at = static_cast<int>(first) * stride + static_cast<int>(threadIdx.x % Shape::kPieces) * 8;
  Packed<Bf16, 8> x[Shape::kReads] = {}, y[Shape::kReads] = {};
  COSUB_UNROLL
  for (unsigned i = 0; i < Shape::kReads; ++i) {
    const unsigned line = i * Shape::kLinesAtOnce;
    if (first + line >= valid) continue;
    x[i] = *reinterpret_cast<const Packed<Bf16, 8>*>(a + at + static_cast<int>(line) * stride);
    y[i] = *reinterpret_cast<const Packed<Bf16, 8>*>(b + at + static_cast<int>(line) * stride);
  }
  COSUB_UNROLL
  for (unsigned i = 0; i < Shape::kReads; ++i) {
    float sum = 0;
    COSUB_UNROLL
    for (int j = 0; j < 8; ++j) sum += as_float(x[i].at[j]) * as_float(y[i].at[j]);
    COSUB_UNROLL
    for (unsigned distance = 1; distance < Shape::kPieces; distance *= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, static_cast<int>(distance));
    const unsigned line = first + i * Shape::kLinesAtOnce;
    if (threadIdx.x % Shape::kPieces == 0 && line < Shape::kLines) products[line] = sum;
  }
}

/// A warpgroup's [64, 64], times `factor`, as lines [first_line, tokens) of bfloat16 `stride` apart. By way
/// of `between`, of which a warp takes the lines of its own. warp_sums: of these over the warp's lines, null:
/// not wanted.
template <class Panel>
__device__ __forceinline__ void write_group(const float (&sums)[8][4], float factor, const Panel& between,
                                            unsigned first_line, unsigned tokens, Bf16* to, int stride,
                                            float* warp_sums) {
  const unsigned lane = threadIdx.x % kWarp, first = first_line + threadIdx.x % kWarpgroup / kWarp * kTile;
  const unsigned place = Panel::place(first + lane / 4, lane % 4 * 2);
  __syncwarp();
  COSUB_UNROLL
  for (unsigned i = 0; i < 8; ++i) {
    COSUB_UNROLL
    for (unsigned half = 0; half < 2; ++half)
      *reinterpret_cast<unsigned*>(between.begin + (place ^ i * 8) + half * 8 * kPanelColumns) =
          pair_of(factor * sums[i][2 * half], factor * sums[i][2 * half + 1]);
  }
  __syncwarp();
  constexpr unsigned kPieces = kPanelColumns / 8, kLinesAtOnce = kWarp / kPieces;  // of a warp
  const unsigned column = lane % kPieces * 8;
  Pack<8> of_lines = {};
  COSUB_UNROLL
  for (unsigned i = 0; i < kTile; i += kLinesAtOnce) {
    const unsigned line = first + i + lane / kPieces;
    if (line >= tokens) continue;
    const auto piece = *reinterpret_cast<const Packed<Bf16, 8>*>(between.at(line, column));
    *reinterpret_cast<Packed<Bf16, 8>*>(to + static_cast<int>(line) * stride + column) = piece;
    COSUB_UNROLL
    for (int j = 0; j < 8; ++j) of_lines.at[j] += as_float(piece.at[j]);
  }
  if (warp_sums == nullptr) return;
  COSUB_UNROLL
  for (int j = 0; j < 8; ++j) COSUB_UNROLL
  for (unsigned distance = kPieces; distance < kWarp; distance *= 2)
    of_lines.at[j] += __shfl_xor_sync(0xffffffffu, of_lines.at[j], static_cast<int>(distance));
  if (lane < kPieces) store(of_lines, warp_sums + column);
}

/// The block's sums of a head to its part of scratch.
template <class Shape>
__device__ __forceinline__ void leave_sums(const AttentionBackward& a, const GradientMemory<Shape>& shared,
                                           const HeadOf& of) {
  for (unsigned i = threadIdx.x; i < 3 * kPanelColumns; i += Shape::kThreads) {
    const unsigned part = i / kPanelColumns, column = i % kPanelColumns;
    float sum = 0;  // of keys
    for (unsigned warp = 0; warp < Shape::kWarps && part != 1; ++warp)
      sum += shared.sums_of(warp, part / 2)[column];
    a.scratch[of.first_sums(a, part) + column] = sum;
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    attention_backward_kernel(AttentionBackward a) {
  constexpr unsigned kLines = Shape::kLines, kStep = 32, kWhole = kLines / kStep * kStep;
  const auto tokens = static_cast<unsigned>(a.tokens);
  const unsigned group = same_in_warp(threadIdx.x / kWarpgroup), first_line = group * kGroupLines;
  const GradientMemory<Shape> shared(dynamic_shared());
  const Operand k(shared.k), k_of_group = further(k, first_line),
                             v_of_group = further(Operand(shared.v), first_line);
  const auto *qkv = static_cast<const Bf16*>(a.qkv), *out = static_cast<const Bf16*>(a.out),
             *d_out = static_cast<const Bf16*>(a.d_out);
  auto* const d_qkv = static_cast<Bf16*>(a.d_qkv);
  const float factor = a.scale * kLog2E;

  const auto fetch_all_but_keys = [&](const HeadOf& of) {
    fetch_lines<Shape>(shared.v, qkv + of.first_line(a, 2), line_stride(a), tokens);
    fetch_lines<Shape>(shared.q, qkv + of.first_line(a, 0), line_stride(a), tokens);
    fetch_lines<Shape>(shared.d_out, d_out + of.first_out(a), out_stride(a), tokens);
    if (threadIdx.x >= tokens) return;  // the rest comes as near as it can
    const int line = static_cast<int>(threadIdx.x);
    prefetch(qkv + of.first_line(a, 1) + line * line_stride(a));
    prefetch(out + of.first_out(a) + line * out_stride(a));
  };
  const auto fetch_keys = [&](const HeadOf& of) {
    fetch_lines<Shape>(shared.k, qkv + of.first_line(a, 1), line_stride(a), tokens);
    end_group_of_copies();
  };
  const auto prepare_queries = [&](const HeadOf& of) {
    multiply_lines<Shape>(out + of.first_out(a), d_out + of.first_out(a), out_stride(a), tokens,
                          shared.products);
    const unsigned line = threadIdx.x;
    if (line < kLines)
      shared.log_sums[line] = line < tokens ? kLog2E * a.log_sums[of.first_sum(a) + line] : INFINITY;
  };
  const auto write = [&](const float(&sums)[8][4], float by, const HeadOf& of, unsigned part) {
    float* const warp_sums =
        a.sums == nullptr || part == 1 ? nullptr : shared.sums_of(threadIdx.x / kWarp, part / 2);
    write_group(sums, by, shared.d_scores, first_line, tokens,
                d_qkv + of.first_line(a, static_cast<int>(part)), line_stride(a), warp_sums);
  };

  const auto heads = static_cast<unsigned>(a.rows * a.heads);
  unsigned index = blockIdx.x;
  if (index < heads) {
    const HeadOf first(a, index);
    fetch_all_but_keys(first);
    fetch_keys(first);
    prepare_queries(first);
  }
  for (; index < heads; index += gridDim.x) {
    const bool has_next = index + gridDim.x < heads;
    wait_for_copies<0>();
    show_to_products();
    __syncthreads();
    if (a.sums != nullptr && index != blockIdx.x) leave_sums(a, shared, HeadOf(a, index - gridDim.x));
    float d_keys[8][4] = {}, d_values[8][4] = {};
    COSUB_NO_UNROLL
    for (unsigned query = 0; query < kWhole; query += kStep)
      take_queries<kStep / 8>(shared, k_of_group, v_of_group, first_line, query, tokens, factor, d_keys,
                              d_values);
    if constexpr (kWhole < kLines)
      take_queries<(kLines - kWhole) / 8>(shared, k_of_group, v_of_group, first_line, kWhole, tokens, factor,
                                          d_keys, d_values);
    show_to_products();
    __syncthreads();  // gradients of all scores are there; nobody needs values, queries and d_out any more
    if (has_next) fetch_all_but_keys(HeadOf(a, index + gridDim.x));
    float d_queries[8][4];
    const Operand d_scores(shared.d_scores_of(first_line));
    begin_products();
    COSUB_UNROLL
    for (unsigned key = 0; key < kLines; key += kTile)
      multiply_transpose(d_queries, further(d_scores, key), further(k, key), key > 0);
    end_group_of_products();
    wait_for_products<0>();
    hold(d_queries);
    __syncthreads();  // nor keys, nor gradients of scores
    if (has_next) fetch_keys(HeadOf(a, index + gridDim.x));
    const HeadOf of(a, index);
    write(d_keys, a.scale, of, 1);
    write(d_values, 1, of, 2);
    write(d_queries, a.scale, of, 0);
    if (has_next) prepare_queries(HeadOf(a, index + gridDim.x));
  }
  if (a.sums == nullptr) return;
  __syncthreads();
  leave_sums(a, shared, HeadOf(a, index - gridDim.x));
}

inline void run_attention_backward(const AttentionBackward& a, Stream stream) {
  if (!attention_backward_takes(a.tokens, a.width))
    throw std::invalid_argument("attention_backward: another number of tokens, or another width");
  const auto launch_for = [&](const auto kernel, std::size_t bytes, unsigned threads, std::int64_t blocks) {
    const std::int64_t heads = a.rows * a.heads, most = num_multiprocessors() * blocks;
    launch_with_shared("attention_backward", kernel, bytes, {heads < most ? heads : most, 1}, {threads, 1},
                       stream, a);
    if (a.sums == nullptr) return;
    launch_totals(a.scratch, a.rows, 3 * a.heads * a.width, 1, stream, a.sums);
  };
  const auto run = [&](auto tiles) {
    using Shape = GradientShape<decltype(tiles)::value>;
    launch_for(attention_backward_kernel<Shape>, GradientMemory<Shape>::kBytes, Shape::kThreads,
               Shape::kBlocks);
  };
  if (a.width == WideMemory::kWidth)
    return launch_for(attention_backward_wide_kernel, WideMemory::kBytes, WideMemory::kThreads, 1);
  if (a.tokens <= 4 * kTile) return run(std::integral_constant<unsigned, 4>{});
  if (a.tokens <= 7 * kTile) return run(std::integral_constant<unsigned, 7>{});
  if (a.tokens <= 10 * kTile) return run(std::integral_constant<unsigned, 10>{});
  static_assert(attention_backward_takes(13 * kTile, kPanelColumns) &&
                !attention_backward_takes(13 * kTile + 1, kPanelColumns));
  run(std::integral_constant<unsigned, 13>{});
}

}  // namespace cosub::kernels
