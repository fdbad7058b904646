// Attention for rows of 193 to 257 tokens, as FlashAttention-2 makes it (arXiv 2307.08691): weights of 64
// keys at a time, in units of the greatest score so far. A block takes one head of one row after the other, a
// warpgroup 64 of its queries, while keys and values of the next head come to a second place. A token past
// the 256th, the last, as a key is where each query begins; as a query each warp has its own 16 keys meet it.
#pragma once

#include <stdexcept>

#include "worker/kernels/attention_lines.cuh"

namespace cosub::kernels {

/// What a block has in shared memory: queries; keys, values and the last token's vectors of this head and of
/// the next; what each warp makes of the last query.
template <unsigned kHeadWidth>
struct ForwardMemory : FourGroups {
  static constexpr unsigned kWidth = kHeadWidth, kTiles = kWidth / 8;
  static constexpr unsigned kLinesValues = kWidth / kTile * Lines::kValues;
  enum Vector { kQuery, kKey, kValue, kVectors };
  enum OfWarp { kGreatest, kTotal, kOfWarp };

  static constexpr std::size_t kBytes = (5 * kLinesValues + 2 * kVectors * kWidth) * sizeof(Bf16) +
                                        (kWarps * (kWidth + kOfWarp) + 1) * sizeof(float);

  __device__ __forceinline__ explicit ForwardMemory(unsigned char* from)
      : begin(reinterpret_cast<Bf16*>(from)),
        vectors(begin + 5 * kLinesValues),
        sums(reinterpret_cast<float*>(vectors + 2 * kVectors * kWidth)),
        of_warps(sums + kWarps * kWidth),
        corner(of_warps + kWarps * kOfWarp) {}

  __device__ __forceinline__ Lines queries() const { return {begin}; }
  /// place: 0 or 1
  __device__ __forceinline__ Lines keys(unsigned place) const {
    return {begin + (1 + 2 * place) * kLinesValues};
  }
  __device__ __forceinline__ Lines values(unsigned place) const {
    return {begin + (2 + 2 * place) * kLinesValues};
  }
  __device__ __forceinline__ Bf16* vector(unsigned place, unsigned which) const {
    return vectors + (place * kVectors + which) * kWidth;
  }
  /// Of weights times values, over a warp's lines.
  __device__ __forceinline__ float* sums_of(unsigned warp) const { return sums + warp * kWidth; }
  __device__ __forceinline__ float& of_warp(unsigned warp, OfWarp which) const {
    return of_warps[warp * kOfWarp + which];
  }

  Bf16 *begin, *vectors;
  float *sums, *of_warps;
  float* corner;  // the last token's score with itself
};

/// Where some queries are, of lines l / 4 and 8 further in lane l: the greatest score, log2; the sum of all
/// weights in its units, of which four lanes have a part each; weights times values.
template <int kTiles>
struct QueriesSoFar {
  float greatest[2], total[2];
  float out[kTiles][4];
};

/// A warp's 16 lines meet the last token: as a key it begins its queries; as a query its keys' weights and
/// values are summed up. factor: of scores, for log2.
template <class Memory, int kTiles>
__device__ __forceinline__ void begin_with_last(const Memory& shared, unsigned place, float factor,
                                                unsigned first_line, QueriesSoFar<kTiles>& queries) {
  const unsigned lane = thread_anew() % kWarp, warp = first_line / kTile;
  float of_queries[4] = {}, of_keys[4] = {};
  COSUB_UNROLL
  for (unsigned column = 0; column < Memory::kWidth; column += kTile) {
    unsigned of[4];
    load_tile(of, shared.queries(), first_line, column);
    add_vector_product(of_queries, of, shared.vector(place, Memory::kKey), column);
    load_tile(of, shared.keys(place), first_line, column);
    add_vector_product(of_keys, of, shared.vector(place, Memory::kQuery), column);
  }
  float greatest = -INFINITY, total = 0;
  COSUB_UNROLL
  for (int i = 0; i < 2; ++i) {
    queries.greatest[i] = factor * of_queries[2 * i];
    queries.total[i] = lane % 4 == 0 ? 1 : 0;
    greatest = fmaxf(greatest, factor * of_keys[2 * i]);
  }
  COSUB_UNROLL
  for (int distance = 4; distance < kWarp; distance *= 2)
    greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, distance));
  float weights[2];
  COSUB_UNROLL
  for (int i = 0; i < 2; ++i) {
    weights[i] = fast_exp2(factor * of_keys[2 * i] - greatest);
    total += weights[i];
  }
  COSUB_UNROLL
  for (int distance = 4; distance < kWarp; distance *= 2)
    total += __shfl_xor_sync(0xffffffffu, total, distance);
  if (lane == 0) {
    shared.of_warp(warp, Memory::kGreatest) = greatest;
    shared.of_warp(warp, Memory::kTotal) = total;
  }
  unsigned operand[4];
  as_first_line(weights, operand);
  sum_of_lines<Memory::kWidth>(operand, shared.values(place), first_line, shared.sums_of(warp));
  if (warp == 0) {
    const float score = vector_product<Memory::kWidth>(shared.vector(place, Memory::kQuery),
                                                       shared.vector(place, Memory::kKey));
    if (lane == 0) *shared.corner = factor * score;
  }
  COSUB_UNROLL
  for (unsigned tile = 0; tile < kTiles; ++tile) {
    const unsigned value =
        *reinterpret_cast<const unsigned*>(shared.vector(place, Memory::kValue) + tile * 8 + lane % 4 * 2);
    COSUB_UNROLL
    for (unsigned i = 0; i < 4; ++i) queries.out[tile][i] = i % 2 == 0 ? low_of(value) : high_of(value);
  }
}

/// What a row without a last token begins with.
template <int kTiles>
__device__ __forceinline__ void begin_empty(QueriesSoFar<kTiles>& queries) {
  COSUB_UNROLL
  for (int i = 0; i < 2; ++i) {
    queries.greatest[i] = -INFINITY;
    queries.total[i] = 0;
  }
  COSUB_UNROLL
  for (unsigned tile = 0; tile < kTiles; ++tile) COSUB_UNROLL
  for (unsigned i = 0; i < 4; ++i) queries.out[tile][i] = 0;
}

/// The last query's result, from what the warps left. By the first kWidth threads of the block.
template <class Memory>
__device__ __forceinline__ void finish_last_query(const AttentionForward& a, const Memory& shared,
                                                  unsigned place, const HeadOf& of) {
  const unsigned column = threadIdx.x;
  if (column >= Memory::kWidth) return;
  float greatest = *shared.corner;
  for (unsigned warp = 0; warp < Memory::kWarps; ++warp)
    greatest = fmaxf(greatest, shared.of_warp(warp, Memory::kGreatest));
  float total = fast_exp2(*shared.corner - greatest),
        sum = total * as_float(shared.vector(place, Memory::kValue)[column]);
  for (unsigned warp = 0; warp < Memory::kWarps; ++warp) {
    const float unit = fast_exp2(shared.of_warp(warp, Memory::kGreatest) - greatest);
    total += unit * shared.of_warp(warp, Memory::kTotal);
    sum += unit * shared.sums_of(warp)[column];
  }
  static_cast<Bf16*>(a.out)[of.first_out(a) + Memory::kLines * out_stride(a) + column] =
      from_float<Bf16>(sum * fast_reciprocal(total));
  if (column == 0) a.log_sums[of.first_sum(a) + Memory::kLines] = kLnOf2 * greatest + logf(total);
}

/// scores [64, 8 kParts] = a warpgroup's queries times keys, which begin with these.
template <unsigned kWidth, int kParts, class Panels>
__device__ __forceinline__ void score_keys(float (&scores)[kParts][4], Operand<Panels> q, Operand<Panels> k) {
  begin_products();
  multiply_lines_of<kWidth>(scores, q, k);
  wait_for_products<0>();
  hold(scores);
}

/// Keys from `valid` on do not count.
template <int kParts>
__device__ __forceinline__ void leave_out(float (&scores)[kParts][4], unsigned valid) {
  if (valid >= kParts * 8) return;
  const unsigned column = threadIdx.x % 4 * 2;
  COSUB_UNROLL
  for (unsigned i = 0; i < kParts; ++i) COSUB_UNROLL
  for (unsigned j = 0; j < 4; ++j)
    if (i * 8 + column + j % 2 >= valid) scores[i][j] = -INFINITY;
}

/// Adds the values of the keys, by weights that the scores become, once what the queries have is brought to
/// the new greatest scores.
template <int kParts, int kTiles, class Panels>
__device__ __forceinline__ void weigh_values(const float (&scores)[kParts][4], float factor,
                                             Operand<Panels> v, QueriesSoFar<kTiles>& queries) {
  unsigned weights[kParts / 2][4];
  COSUB_UNROLL
  for (int half = 0; half < 2; ++half) {
    float greatest = -INFINITY;
    COSUB_UNROLL
    for (int i = 0; i < kParts; ++i)
      greatest = fmaxf(greatest, fmaxf(scores[i][2 * half], scores[i][2 * half + 1]));
    COSUB_UNROLL
    for (int distance = 1; distance < 4; distance *= 2)
      greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, distance));
    greatest = fmaxf(queries.greatest[half], factor * greatest);
    const float unit = fast_exp2(queries.greatest[half] - greatest);
    queries.greatest[half] = greatest;
    float total = 0;
    COSUB_UNROLL
    for (int i = 0; i < kParts; ++i) {
      const float first = fast_exp2(factor * scores[i][2 * half] - greatest),
                  second = fast_exp2(factor * scores[i][2 * half + 1] - greatest);
      total += first + second;
      weights[i / 2][i % 2 * 2 + half] = pair_of(first, second);
    }
    queries.total[half] = unit * queries.total[half] + total;
    COSUB_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) COSUB_UNROLL
    for (int i = 0; i < 2; ++i) queries.out[tile][2 * half + i] *= unit;
  }
  hold(queries.out);
  begin_products();
  COSUB_UNROLL
  for (unsigned i = 0; i < kParts / 2; ++i) add_product(queries.out, weights[i], further(v, i * kTile));
  end_group_of_products();
  wait_for_products<0>();
  hold(queries.out);
}

/// Divides by the sums of weights, and writes out.
template <int kTiles>
__device__ __forceinline__ void finish_queries(const AttentionForward& a, const HeadOf& of,
                                               unsigned first_line, unsigned tokens,
                                               QueriesSoFar<kTiles>& queries) {
  const unsigned lane = thread_anew() % kWarp;
  COSUB_UNROLL
  for (int half = 0; half < 2; ++half) {
    float total = queries.total[half];
    COSUB_UNROLL
    for (int distance = 1; distance < 4; distance *= 2)
      total += __shfl_xor_sync(0xffffffffu, total, distance);
    const float by = fast_reciprocal(total);
    COSUB_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) COSUB_UNROLL
    for (int i = 0; i < 2; ++i) queries.out[tile][2 * half + i] *= by;
    const unsigned line = first_line + lane / 4 + static_cast<unsigned>(half) * 8;
    if (lane % 4 == 0 && line < tokens)
      a.log_sums[of.first_sum(a) + line] = kLnOf2 * queries.greatest[half] + logf(total);
  }
  write_lines(queries.out, 1, first_line, tokens, static_cast<Bf16*>(a.out) + of.first_out(a), out_stride(a),
              nullptr);
}

template <unsigned kWidth>
__global__ void __launch_bounds__(FourGroups::kThreads, 1) attention_kernel(AttentionForward a) {
  using Memory = ForwardMemory<kWidth>;
  const auto tokens = static_cast<unsigned>(a.tokens);
  const unsigned first_query = same_in_warp(threadIdx.x / kWarpgroup) * kGroupLines,
                 first_line = same_in_warp(threadIdx.x / kWarp) * kTile;
  const Memory shared(dynamic_shared());
  const auto* const qkv = static_cast<const Bf16*>(a.qkv);
  const float factor = a.scale * kLog2E;
  const bool has_last = tokens > Memory::kLines;
  constexpr unsigned kLastKeys = Memory::kLines - kGroupLines;

  using AllLines = PartOfLines<0, Memory::kLines, 0, kWidth>;
  const auto fetch_queries = [&](const HeadOf& of) {
    AllLines::fetch([&](unsigned line, unsigned column) { return shared.queries().at(line, column); },
                    qkv + of.first_line(a, 0), line_stride(a), tokens);
    end_group_of_copies();
  };
  const auto fetch_rest = [&](const HeadOf& of, unsigned place) {
    AllLines::fetch([&](unsigned line, unsigned column) { return shared.keys(place).at(line, column); },
                    qkv + of.first_line(a, 1), line_stride(a), tokens);
    AllLines::fetch([&](unsigned line, unsigned column) { return shared.values(place).at(line, column); },
                    qkv + of.first_line(a, 2), line_stride(a), tokens);
    for (int which = 0; which < Memory::kVectors; ++which)
      fetch_vector<kWidth>(static_cast<unsigned>(which) * kWidth / 8,
                           qkv + of.first_line(a, which) + static_cast<int>(Memory::kLines) * line_stride(a),
                           shared.vector(place, static_cast<unsigned>(which)), has_last);
    end_group_of_copies();
  };
  const auto prefetch_queries = [&](const HeadOf& of) {
    const int line = static_cast<int>(threadIdx.x / 2), column = static_cast<int>(threadIdx.x % 2 * 64);
    if (threadIdx.x / 2 < tokens && column < static_cast<int>(kWidth))
      prefetch(qkv + of.first_line(a, 0) + line * line_stride(a) + column);
  };

  const auto heads = static_cast<unsigned>(a.rows * a.heads);
  unsigned index = blockIdx.x, place = 0;
  if (index < heads) {
    fetch_queries(HeadOf(a, index));
    fetch_rest(HeadOf(a, index), place);
  }
  for (; index < heads; index += gridDim.x, place = 1 - place) {
    const bool has_next = index + gridDim.x < heads;
    const HeadOf of(a, index), next(a, index + gridDim.x);
    wait_for_copies<0>();
    show_to_products();
    __syncthreads();  // this head is there; nobody needs the one before
    if (has_next) {
      fetch_rest(next, 1 - place);
      prefetch_queries(next);
    }
    QueriesSoFar<Memory::kTiles> queries;
    if (has_last)
      begin_with_last(shared, place, factor, first_line, queries);
    else
      begin_empty(queries);
    const Operand q = further(Operand(shared.queries()), first_query), k(shared.keys(place)),
                  v(shared.values(place));
    COSUB_NO_UNROLL
    for (unsigned key = 0; key < kLastKeys; key += kGroupLines) {
      float scores[8][4];
      score_keys<kWidth>(scores, q, further(k, key));
      weigh_values(scores, factor, further(v, key), queries);
    }
    const auto take_last_keys = [&](auto parts) {
      float scores[decltype(parts)::value][4];
      score_keys<kWidth>(scores, q, further(k, kLastKeys));
      __syncthreads();  // nobody needs queries any more; what the warps made of the last one is there
      if (has_last) finish_last_query(a, shared, place, of);
      if (has_next) fetch_queries(next);
      leave_out(scores, tokens - kLastKeys);
      weigh_values(scores, factor, further(v, kLastKeys), queries);
    };
    if (tokens <= kLastKeys + kTile)
      take_last_keys(std::integral_constant<int, 2>{});
    else
      take_last_keys(std::integral_constant<int, 8>{});
    finish_queries(a, of, first_line, tokens < Memory::kLines ? tokens : Memory::kLines, queries);
  }
}

inline void run_attention(const AttentionForward& a, Stream stream) {
  if (!attention_takes(a.tokens, a.width))
    throw std::invalid_argument("attention: another number of tokens, or another width");
  const auto run = [&](auto width) {
    constexpr unsigned kWidth = decltype(width)::value;
    const std::int64_t heads = a.rows * a.heads, most = num_multiprocessors();
    launch_with_shared("attention", attention_kernel<kWidth>, ForwardMemory<kWidth>::kBytes,
                       {heads < most ? heads : most, 1}, {FourGroups::kThreads, 1}, stream, a);
  };
  if (a.width == 64) return run(std::integral_constant<unsigned, 64>{});
  run(std::integral_constant<unsigned, 80>{});
}

}  // namespace cosub::kernels
