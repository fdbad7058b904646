// The gradients of attention for heads of 80 and rows of 193 to 257 tokens, as the patches of a ViT-H/14 and
// its class token: like attention_backward.cuh, with lines in panels of 16 columns. Four warpgroups have 64
// keys each; the gradients of all scores would not fit beside the operands, so they come to lie where queries
// and gradients of results were that all have taken. A token past the 256th, the last, is a matter of
// vectors: each warp has its own 16 lines of everything meet that one's.
#pragma once

#include "worker/kernels/attention_gradients.cuh"
#include "worker/kernels/attention_lines.cuh"

namespace cosub::kernels {

/// What a block has in shared memory, in the order of addresses.
struct WideMemory : FourGroups {
  static constexpr unsigned kWidth = 80, kRounds = kGroups;
  using Round = PanelsOf<kTile, kGroupLines>;  // of queries or gradients of results, 64 of them
  using Scores = PanelsOf<kTile, kLines>;      // for 16 queries each, a line for each key
  static constexpr unsigned kLinesValues = kWidth / kTile * Lines::kValues,
                            kRoundValues = kWidth / kTile * Round::kValues,
                            kScoresValues = kGroupLines / kTile * Scores::kValues;  // of a round

  // Queries and gradients of results of the last round lie apart: those of the others are overwritten.
  static constexpr unsigned kScores = kLinesValues, kLastRound = kScores + 2 * kScoresValues,
                            kFirstRounds = kLastRound + 2 * kRoundValues,
                            kValues = kFirstRounds + 3 * 2 * kRoundValues, kEnd = kValues + kLinesValues;
  // Of rounds 2 and 3. The last 16 queries' come to lie where the first 16 columns of values were, each
  // warpgroup's in lines of its own.
  static constexpr unsigned kScores2 = kFirstRounds, kScores3 = kValues - 3 * Scores::kValues;
  static_assert(kScores2 + kScoresValues <= kScores3, "rounds 2 and 3 side by side");
  static_assert(kScores2 + kScoresValues <= kFirstRounds + 2 * 2 * kRoundValues, "where rounds 0 and 1 were");

  /// Vectors of a line each, of the last token.
  enum Vector { kQuery, kKey, kValue, kDOut, kVectors };
  /// Sums over a warp's lines, which are added up before round 1 needs their place.
  enum Sums { kOfValue, kOfKey, kOfQuery, kOfDOut, kOfDQueries, kSums };
  static_assert(kSums * kWarps * kWidth * sizeof(float) <= kScoresValues * sizeof(Bf16));

  static constexpr std::size_t kBytes =
      (kEnd + kVectors * kWidth) * sizeof(Bf16) + (2 * kLines + 2) * sizeof(float);

  __device__ __forceinline__ explicit WideMemory(unsigned char* from)
      : begin(reinterpret_cast<Bf16*>(from)),
        vectors(begin + kEnd),
        log_sums(reinterpret_cast<float*>(vectors + kVectors * kWidth)),
        products(log_sums + kLines),
        corner(products + kLines) {}

  __device__ __forceinline__ Lines keys() const { return {begin}; }
  __device__ __forceinline__ Lines values() const { return {begin + kValues}; }
  __device__ __forceinline__ Round queries(unsigned round) const {
    return {begin + (round + 1 < kRounds ? kFirstRounds + round * 2 * kRoundValues : kLastRound)};
  }
  __device__ __forceinline__ Round d_out(unsigned round) const {
    return {queries(round).begin + kRoundValues};
  }
  __device__ __forceinline__ Operand<Round> queries_from(unsigned query) const {
    return further(Operand(queries(query / kGroupLines)), query % kGroupLines);
  }
  __device__ __forceinline__ Operand<Round> d_out_from(unsigned query) const {
    return further(Operand(d_out(query / kGroupLines)), query % kGroupLines);
  }
  __device__ __forceinline__ Scores d_scores_of(unsigned query) const {
    const unsigned round = query / kGroupLines;
    const unsigned first = round < 2 ? kScores + round * kScoresValues : round == 2 ? kScores2 : kScores3;
    return {begin + first + query % kGroupLines / kTile * Scores::kValues};
  }
  /// By all, before the gradients of scores are written for the last queries below that one.
  __device__ __forceinline__ void before_scores_to(unsigned query) const {
    if (query == kLines) __syncthreads();  // their place still had values
  }
  __device__ __forceinline__ const Bf16* vector(Vector which) const { return vectors + which * kWidth; }
  __device__ __forceinline__ float* sums_of(Sums which, unsigned warp) const {
    return reinterpret_cast<float*>(begin + kScores + kScoresValues) + (which * kWarps + warp) * kWidth;
  }

  Bf16 *begin, *vectors;
  float *log_sums, *products;
  float* corner;  // the last token with itself: its weight, its score's gradient
};

/// What a warp takes from memory for its 16 lines, in registers before the copies to shared memory end.
struct OfLines {
  __device__ __forceinline__ void read(const AttentionBackward& a, const HeadOf& of, unsigned first_line) {
    const unsigned lane = thread_anew() % kWarp, tokens = static_cast<unsigned>(a.tokens);
    const Bf16* const from = static_cast<const Bf16*>(a.out) + of.first_out(a);
    const float* const sums = a.log_sums + of.first_sum(a);
    const auto pair = [&](unsigned line, unsigned column) {
      return line < tokens
                 ? *reinterpret_cast<const unsigned*>(from + static_cast<int>(line) * out_stride(a) + column)
                 : 0;
    };
    COSUB_UNROLL
    for (unsigned tile = 0; tile < 5; ++tile) COSUB_UNROLL
    for (unsigned i = 0; i < 4; ++i)
      out[tile][i] = pair(first_line + lane / 4 + i % 2 * 8, tile * kTile + lane % 4 * 2 + i / 2 * 8);
    COSUB_UNROLL
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned line = first_line + lane / 4 + i * 8;
      log_sums[i] = line < tokens ? kLog2E * sums[line] : INFINITY;
    }
    constexpr unsigned kLast = WideMemory::kLines;
    last_out[0] = pair(kLast, lane * 2);
    last_out[1] = lane < 8 ? pair(kLast, 64 + lane * 2) : 0;
    last_log_sum = kLast < tokens ? kLog2E * sums[kLast] : INFINITY;
  }

  unsigned out[5][4];  // as a product's first operand
  float log_sums[2];
  unsigned last_out[2];  // of the last token, two columns of each lane and of eight
  float last_log_sum;
};

/// A warp's 16 lines meet the last token: leaves result times gradient of the warp's queries and the sums
/// over its lines, begins the gradients of its keys and values, and gives what the last key adds to those of
/// its queries' lines: twice the gradient of a score, times that key.
__device__ __forceinline__ unsigned meet_last(const AttentionBackward& a, const WideMemory& shared,
                                              const OfLines& lines, unsigned first_line,
                                              float (&d_keys)[10][4], float (&d_values)[10][4]) {
  using Memory = WideMemory;
  constexpr unsigned kTiles = Memory::kWidth / kTile;
  const unsigned lane = thread_anew() % kWarp, warp = first_line / kTile,
                 line_of_round = first_line % kGroupLines, column = lane % 4 * 2;
  const auto round_q = shared.queries(first_line / kGroupLines),
             round_d_out = shared.d_out(first_line / kGroupLines);
  const bool has_last = a.tokens > Memory::kLines;
  const float factor = a.scale * kLog2E;
  const auto pair = [&](Memory::Vector which, unsigned at) {
    return *reinterpret_cast<const unsigned*>(shared.vector(which) + at);
  };

  // Each column of a tile's products is the same.
  float of_queries[4] = {}, of_d_out[4] = {}, of_keys[4] = {}, of_values[4] = {}, products[2] = {};
  COSUB_UNROLL
  for (unsigned tile = 0; tile < kTiles; ++tile) {
    const unsigned at = tile * kTile;
    unsigned of[4];
    load_tile(of, round_q, line_of_round, at);
    add_vector_product(of_queries, of, shared.vector(Memory::kKey), at);
    load_tile(of, round_d_out, line_of_round, at);
    add_vector_product(of_d_out, of, shared.vector(Memory::kValue), at);
    COSUB_UNROLL
    for (unsigned i = 0; i < 4; ++i) add_pairs(products[i % 2], of[i], lines.out[tile][i]);
    load_tile(of, shared.keys(), first_line, at);
    add_vector_product(of_keys, of, shared.vector(Memory::kQuery), at);
    load_tile(of, shared.values(), first_line, at);
    add_vector_product(of_values, of, shared.vector(Memory::kDOut), at);
  }
  COSUB_UNROLL
  for (int i = 0; i < 2; ++i) COSUB_UNROLL
  for (int distance = 1; distance < 4; distance *= 2)
    products[i] += __shfl_xor_sync(0xffffffffu, products[i], distance);
  float last_product = 0;
  add_pairs(last_product, pair(Memory::kDOut, lane * 2), lines.last_out[0]);
  if (lane < 8) add_pairs(last_product, pair(Memory::kDOut, 64 + lane * 2), lines.last_out[1]);
  last_product = warp_sum(last_product);
  const auto corner_product = [&](Memory::Vector x, Memory::Vector y) {
    return vector_product<Memory::kWidth>(shared.vector(x), shared.vector(y));
  };
  const float corner_score = corner_product(Memory::kQuery, Memory::kKey),
              corner_weight = corner_product(Memory::kDOut, Memory::kValue);
  if (threadIdx.x == 0) {
    shared.corner[0] = fast_exp2(factor * corner_score - lines.last_log_sum);
    shared.corner[1] = shared.corner[0] * (corner_weight - last_product);
  }

  // Of line l / 4 and that 8 further: the last key's weights for these queries, these keys' for the last one.
  float key_weights[2], key_scores[2], query_weights[2], query_scores[2];
  COSUB_UNROLL
  for (int i = 0; i < 2; ++i) {
    key_weights[i] = has_last ? fast_exp2(factor * of_queries[2 * i] - lines.log_sums[i]) : 0;
    key_scores[i] = key_weights[i] * (of_d_out[2 * i] - products[i]);
    query_weights[i] = fast_exp2(factor * of_keys[2 * i] - lines.last_log_sum);
    query_scores[i] = query_weights[i] * (of_values[2 * i] - last_product);
    if (column > 0) continue;
    const unsigned line = first_line + lane / 4 + i * 8;
    shared.log_sums[line] = lines.log_sums[i];
    shared.products[line] = products[i];
  }

  unsigned weights[4];
  as_first_line(key_scores, weights);
  sum_of_lines<Memory::kWidth>(weights, round_q, line_of_round, shared.sums_of(Memory::kOfKey, warp));
  as_first_line(query_scores, weights);
  sum_of_lines<Memory::kWidth>(weights, shared.keys(), first_line, shared.sums_of(Memory::kOfQuery, warp));
  as_first_line(key_weights, weights);
  if (lane / 4 == 1) weights[0] = weights[2] = pair_of(1, 1);
  sum_of_lines<Memory::kWidth>(weights, round_d_out, line_of_round, shared.sums_of(Memory::kOfValue, warp),
                               shared.sums_of(Memory::kOfDOut, warp));

  COSUB_UNROLL
  for (unsigned tile = 0; tile < 2 * kTiles; ++tile) {
    const unsigned last_query = pair(Memory::kQuery, tile * 8 + column),
                   last_d_out = pair(Memory::kDOut, tile * 8 + column);
    COSUB_UNROLL
    for (unsigned i = 0; i < 2; ++i) {
      d_keys[tile][2 * i] = query_scores[i] * low_of(last_query);
      d_keys[tile][2 * i + 1] = query_scores[i] * high_of(last_query);
      d_values[tile][2 * i] = query_weights[i] * low_of(last_d_out);
      d_values[tile][2 * i + 1] = query_weights[i] * high_of(last_d_out);
    }
  }
  return pair_of(key_scores[0], key_scores[1]);
}

/// Adds up the warps' sums that meet_last left: the last token's gradients, and what of the sums for the bias
/// is known.
__device__ __forceinline__ void finish_last(const AttentionBackward& a, const WideMemory& shared,
                                            const HeadOf& of) {
  using Memory = WideMemory;
  const bool has_last = a.tokens > Memory::kLines;
  for (unsigned i = threadIdx.x; i < Memory::kOfDQueries * Memory::kWidth; i += Memory::kThreads) {
    const auto which = static_cast<Memory::Sums>(i / Memory::kWidth);
    const unsigned column = i % Memory::kWidth;
    float sum = 0;
    for (unsigned warp = 0; warp < Memory::kWarps; ++warp) sum += shared.sums_of(which, warp)[column];
    const auto of_last = [&](Memory::Vector vector) { return as_float(shared.vector(vector)[column]); };
    const auto write = [&](int part, float gradient) {
      const Bf16 rounded = from_float<Bf16>(gradient);
      if (has_last)
        static_cast<Bf16*>(a.d_qkv)[of.first_line(a, part) + Memory::kLines * line_stride(a) + column] =
            rounded;
      return as_float(rounded);
    };
    const auto begin_sum = [&](unsigned part, float value) {
      if (a.sums != nullptr) a.scratch[of.first_sums(a, part) + column] = value;
    };
    if (which == Memory::kOfValue) write(2, sum + shared.corner[0] * of_last(Memory::kDOut));
    if (which == Memory::kOfKey) {
      write(1, a.scale * (sum + shared.corner[1] * of_last(Memory::kQuery)));
      begin_sum(1, 0);
    }
    if (which == Memory::kOfQuery)
      begin_sum(0, write(0, a.scale * (sum + shared.corner[1] * of_last(Memory::kKey))));
    // A query's weights sum to 1, so the gradients of all values to that of all results.
    if (which == Memory::kOfDOut) begin_sum(2, sum + of_last(Memory::kDOut));
  }
}

/// Adds the sums of the gradients of queries, once all warps have left theirs. By the threads that began
/// those in finish_last.
__device__ __forceinline__ void finish_sums(const AttentionBackward& a, const WideMemory& shared,
                                            const HeadOf& of) {
  using Memory = WideMemory;
  const unsigned column = threadIdx.x - Memory::kOfQuery * Memory::kWidth;
  if (column >= Memory::kWidth) return;
  float sum = 0;
  for (unsigned warp = 0; warp < Memory::kWarps; ++warp)
    sum += shared.sums_of(Memory::kOfDQueries, warp)[column];
  a.scratch[of.first_sums(a, 0) + column] += sum;
}

static __global__ void __launch_bounds__(WideMemory::kThreads, 1)
    attention_backward_wide_kernel(AttentionBackward a) {
  using Memory = WideMemory;
  const auto tokens = static_cast<unsigned>(a.tokens);
  const unsigned group = same_in_warp(threadIdx.x / kWarpgroup), first_key = group * kGroupLines,
                 first_line = same_in_warp(threadIdx.x / kWarp) * kTile, lane = threadIdx.x % kWarp;
  const Memory shared(dynamic_shared());
  const Operand k(shared.keys()), k_of_group = further(k, first_key),
                                  v_of_group = further(Operand(shared.values()), first_key);
  const auto* const qkv = static_cast<const Bf16*>(a.qkv);
  auto* const d_qkv = static_cast<Bf16*>(a.d_qkv);
  const auto* const d_out = static_cast<const Bf16*>(a.d_out);
  const float factor = a.scale * kLog2E;

  const auto fetch_queries = [&](const HeadOf& of, auto part) {  // and gradients of results
    part.fetch(
        [&](unsigned line, unsigned column) {
          return shared.queries(line / kGroupLines).at(line % kGroupLines, column);
        },
        qkv + of.first_line(a, 0), line_stride(a), tokens);
    part.fetch(
        [&](unsigned line, unsigned column) {
          return shared.d_out(line / kGroupLines).at(line % kGroupLines, column);
        },
        d_out + of.first_out(a), out_stride(a), tokens);
  };
  const auto fetch_values = [&](const HeadOf& of, auto part) {
    part.fetch([&](unsigned line, unsigned column) { return shared.values().at(line, column); },
               qkv + of.first_line(a, 2), line_stride(a), tokens);
  };
  constexpr unsigned kLines = Memory::kLines, kWidth = Memory::kWidth, kLastRound = kLines - kGroupLines;
  // Where no gradients of scores lie, and the rest.
  const auto fetch_first = [&](const HeadOf& of) {
    fetch_values(of, PartOfLines<0, kLines, kTile, kWidth - kTile>());
    fetch_queries(of, PartOfLines<kLastRound, kGroupLines, 0, kWidth>());
  };
  const auto fetch_rest = [&](const HeadOf& of) {
    fetch_values(of, PartOfLines<0, kLines, 0, kTile>());
    fetch_queries(of, PartOfLines<0, kLastRound, 0, kWidth>());
    PartOfLines<0, kLines, 0, kWidth>::fetch(
        [&](unsigned line, unsigned column) { return shared.keys().at(line, column); },
        qkv + of.first_line(a, 1), line_stride(a), tokens);
    for (int which = 0; which < Memory::kVectors; ++which) {
      const int line = static_cast<int>(kLines);
      const Bf16* const last = which == Memory::kDOut ? d_out + of.first_out(a) + line * out_stride(a)
                                                      : qkv + of.first_line(a, which) + line * line_stride(a);
      fetch_vector<kWidth>(static_cast<unsigned>(which) * kWidth / 8, last,
                           shared.vectors + static_cast<unsigned>(which) * kWidth, tokens > kLines);
    }
    end_group_of_copies();
  };
  const auto prefetch_head = [&](const HeadOf& of) {
    for (unsigned i = threadIdx.x; i < 2 * tokens; i += Memory::kThreads) {
      const int line = static_cast<int>(i / 2), column = static_cast<int>(i % 2 * 64);
      for (int part = 0; part < 3; ++part)
        prefetch(qkv + of.first_line(a, part) + line * line_stride(a) + column);
      prefetch(d_out + of.first_out(a) + line * out_stride(a) + column);
      prefetch(static_cast<const Bf16*>(a.out) + of.first_out(a) + line * out_stride(a) + column);
    }
  };

  const auto heads = static_cast<unsigned>(a.rows * a.heads);
  unsigned index = blockIdx.x;
  OfLines lines;
  if (index < heads) {
    fetch_first(HeadOf(a, index));
    fetch_rest(HeadOf(a, index));
    lines.read(a, HeadOf(a, index), first_line);
  }
  for (; index < heads; index += gridDim.x) {
    const bool has_next = index + gridDim.x < heads;
    const HeadOf of(a, index), next(a, index + gridDim.x);
    wait_for_copies<0>();
    show_to_products();
    __syncthreads();
    if (a.sums != nullptr && index != blockIdx.x) finish_sums(a, shared, HeadOf(a, index - gridDim.x));
    float d_keys[10][4], d_values[10][4];
    const unsigned last_scores = meet_last(a, shared, lines, first_line, d_keys, d_values);
    __syncthreads();  // what the warps leave of the last token, and for their queries, is there
    finish_last(a, shared, of);
    if (has_next) prefetch_head(next);
    const auto write = [&](const float(&sums)[10][4], float by, int part, float* warp_sums) {
      write_lines(sums, by, first_line, tokens < kLines ? tokens : kLines, d_qkv + of.first_line(a, part),
                  line_stride(a), warp_sums);
    };
    COSUB_NO_UNROLL
    for (unsigned round = 0; round < Memory::kRounds; ++round) {
      COSUB_NO_UNROLL
      for (unsigned query = 0; query < kGroupLines; query += kTile)
        take_queries<2>(shared, k_of_group, v_of_group, first_key, round * kGroupLines + query, tokens,
                        factor, d_keys, d_values);
      if (round + 1 == Memory::kRounds) write(d_values, 1, 2, nullptr);
      show_to_products();
      __syncthreads();  // all have taken the round's queries; gradients of its scores are there
    }
    if (has_next) fetch_first(next);
    float d_queries[10][4];
    COSUB_UNROLL
    for (unsigned tile = 0; tile < 10; ++tile) {
      const unsigned last_key =
          *reinterpret_cast<const unsigned*>(shared.vector(Memory::kKey) + tile * 8 + lane % 4 * 2);
      COSUB_UNROLL
      for (unsigned i = 0; i < 4; ++i)
        d_queries[tile][i] = (i < 2 ? low_of(last_scores) : high_of(last_scores)) *
                             (i % 2 == 0 ? low_of(last_key) : high_of(last_key));
    }
    const Operand d_scores(shared.d_scores_of(first_key));
    hold(d_queries);
    begin_products();
    COSUB_UNROLL
    for (unsigned key = 0; key < kLines; key += kTile)
      multiply_transpose(d_queries, further(d_scores, key), further(k, key), true);
    end_group_of_products();
    hold(d_keys);
    write(d_keys, a.scale, 1, nullptr);
    wait_for_products<0>();
    hold(d_queries);
    __syncthreads();  // nobody needs anything of this head any more
    if (has_next) fetch_rest(next);
    write(d_queries, a.scale, 0,
          a.sums == nullptr ? nullptr : shared.sums_of(Memory::kOfDQueries, threadIdx.x / kWarp));
    if (has_next) lines.read(a, next, first_line);
  }
  if (a.sums == nullptr) return;
  __syncthreads();
  finish_sums(a, shared, HeadOf(a, index - gridDim.x));
}

}  // namespace cosub::kernels
