// What the kernels of all optimizers share: the step's scalars, the passes over flat vectors, the EMA.
#pragma once

#include "worker/kernels/numbers.cuh"

namespace cosub::kernels {

constexpr int kUpdateThreads = 256;
constexpr std::int64_t kUpdateBlocks = kNormScratch;  // at most: each prepares the step's numbers once

/// What a block needs of the EMA, prepared in double by one of its threads.
struct EmaNow {
  float* average;
  float weight;  // of the new value

  __device__ void prepare(const EmaRule& rule, double updates) {
    const double warm = (1.0 + updates) / (10.0 + updates);
    average = rule.average;
    weight = static_cast<float>(1.0 - (rule.warmup && warm < rule.decay ? warm : rule.decay));
  }
  /// As torch.lerp has it: exact at both ends.
  template <int kWidth>
  __device__ __forceinline__ void follow(std::int64_t at, const Pack<kWidth>& values) const {
    if (average == nullptr) return;
    Pack<kWidth> now = load<kWidth>(average + at);
    for (int i = 0; i < kWidth; ++i) {
      const float way = values.at[i] - now.at[i];
      now.at[i] = weight < 0.5f ? now.at[i] + weight * way : values.at[i] - way * (1.0f - weight);
    }
    store(now, average + at);
  }
};

/// Gradients as the rule takes them, written back where clipping has changed them.
template <int kWidth>
__device__ __forceinline__ Pack<kWidth> clipped(float* gradients, std::int64_t at, float factor,
                                                float divisor = 1) {
  Pack<kWidth> g = load<kWidth>(gradients + at);
  if (factor >= 1 && divisor <= 1) return g;
  for (int i = 0; i < kWidth; ++i) {
    if (factor < 1) g.at[i] *= factor;
    if (divisor > 1) g.at[i] /= divisor;
  }
  store(g, gradients + at);
  return g;
}

/// visitor.visit<kWidth>(at) for all elements of [begin, end) that `stride` threads, of which this is number
/// `first`, share: in packs of 4 where `four` (all vectors are aligned for it) and begin allow.
template <class Visitor>
__device__ __forceinline__ void over_elements(std::int64_t begin, std::int64_t end, std::int64_t first,
                                              std::int64_t stride, bool four, Visitor& visitor) {
  std::int64_t single = begin;
  if (four && begin % 4 == 0) {
    single = begin + (end - begin) / 4 * 4;
    for (std::int64_t at = begin + first * 4; at < single; at += stride * 4) visitor.template visit<4>(at);
  }
  for (std::int64_t at = single + first; at < end; at += stride) visitor.template visit<1>(at);
}

/// Over all threads of the grid.
template <class Visitor>
__device__ __forceinline__ void over_elements_of_grid(std::int64_t begin, std::int64_t end, bool four,
                                                      Visitor& visitor) {
  over_elements(begin, end, static_cast<std::int64_t>(blockIdx.x) * kUpdateThreads + threadIdx.x,
                static_cast<std::int64_t>(gridDim.x) * kUpdateThreads, four, visitor);
}

inline Extent blocks_of_elements(std::int64_t count) {
  const std::int64_t blocks = (count + kUpdateThreads * 4 - 1) / (kUpdateThreads * 4);
  return {blocks < kUpdateBlocks ? blocks : kUpdateBlocks, 1};
}

/// Of the buffers: no optimizer changes them.
struct EmaVisitor {
  const float* values;
  EmaNow ema;
  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) const {
    ema.follow(at, load<kWidth>(values + at));
  }
};

static __global__ void ema_kernel(EmaUpdate a) {
  if (a.scalars[kApplies] == 0) return;
  EmaVisitor visitor{a.values, {}};
  visitor.ema.prepare(a.ema, a.scalars[kUpdates]);
  over_elements_of_grid(a.begin, a.end, aligned_for_4(a.values, a.ema.average), visitor);
}

inline void run_ema(const EmaUpdate& a, Stream stream) {
  launch("ema", ema_kernel, blocks_of_elements(a.end - a.begin), {kUpdateThreads, 1}, stream, a);
}

}  // namespace cosub::kernels
