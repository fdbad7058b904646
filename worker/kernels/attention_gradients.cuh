// What the kernels for the gradients of attention have in common: what a warpgroup does with its 64 keys and
// some queries.
#pragma once

#include "worker/kernels/attention_heads.cuh"

namespace cosub::kernels {

/// 8 kParts queries, for a warpgroup's keys, whose lines k and v begin with: adds to their gradients and
/// leaves those of the scores in shared memory. Memory has kLines lines for keys.
template <int kParts, class Memory, class Panels, int kTiles>
__device__ __forceinline__ void take_queries(const Memory& shared, Operand<Panels> k, Operand<Panels> v,
                                             unsigned first_key, unsigned first_query, unsigned tokens,
                                             float factor, float (&d_keys)[kTiles][4],
                                             float (&d_values)[kTiles][4]) {
  constexpr unsigned kWidth = kTiles * 8;
  const unsigned lane = threadIdx.x % kWarp, line = first_key + threadIdx.x % kWarpgroup / kWarp * kTile;
  const auto q = shared.queries_from(first_query), d_out = shared.d_out_from(first_query);
  float weights[kParts][4], d_weights[kParts][4];
  begin_products();
  multiply_lines_of<kWidth>(weights, k, q);
  multiply_lines_of<kWidth>(d_weights, v, d_out);
  wait_for_products<1>();
  hold(weights);
  const float* const log_sums = shared.log_sums + first_query + lane % 4 * 2;
  COSUB_UNROLL
  for (unsigned i = 0; i < kParts; ++i) {
    const Pack<2> of_queries = load<2>(log_sums + i * 8);
    COSUB_UNROLL
    for (int j = 0; j < 4; ++j) weights[i][j] = fast_exp2(factor * weights[i][j] - of_queries.at[j % 2]);
  }
  wait_for_products<0>();
  hold(d_weights);
  shared.before_scores_to(first_query + 8 * kParts);
  unsigned of_weights[kParts / 2][4], of_scores[kParts / 2][4];
  const float* const products = shared.products + first_query + lane % 4 * 2;
  const auto d_scores = shared.d_scores_of(first_query);
  constexpr unsigned kColumns = Memory::Scores::kLineValues;
  static_assert(kParts * 8 <= kColumns);
  const unsigned place = d_scores.place(line + lane / 4, first_query % kColumns + lane % 4 * 2);
  COSUB_UNROLL
  for (unsigned i = 0; i < kParts; ++i) {
    const Pack<2> of_queries = load<2>(products + i * 8);
    COSUB_UNROLL
    for (int j = 0; j < 4; ++j) d_weights[i][j] = weights[i][j] * (d_weights[i][j] - of_queries.at[j % 2]);
    COSUB_UNROLL
    for (unsigned j = 0; j < 2; ++j) {
      of_weights[i / 2][i % 2 * 2 + j] = pair_of(weights[i][2 * j], weights[i][2 * j + 1]);
      const unsigned of_score = pair_of(d_weights[i][2 * j], d_weights[i][2 * j + 1]);
      of_scores[i / 2][i % 2 * 2 + j] = of_score;
      // Past the last key, where scores are 0, a weight may be infinite: those of all keys may be far below
      // 0.
      if (line < Memory::kLines)
        *reinterpret_cast<unsigned*>(d_scores.begin + (place ^ i * 8) + j * 8 * kColumns) =
            line + lane / 4 + j * 8 < tokens ? of_score : 0;
    }
  }
  begin_products();
  COSUB_UNROLL
  for (unsigned i = 0; i < kParts / 2; ++i) {
    add_product(d_values, of_weights[i], further(d_out, i * kTile));
    add_product(d_keys, of_scores[i], further(q, i * kTile));
  }
  end_group_of_products();
  wait_for_products<0>();
  hold(d_values);
  hold(d_keys);
}

}  // namespace cosub::kernels
