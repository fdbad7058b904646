// LAMB (arXiv 1904.00962) by worker/train/lamb.h's formulas: moments and norms by chunk, each tensor's ratio,
// then the step with the EMA. The direction u is computed twice rather than kept: it costs as many bytes, and
// no vector.
#pragma once

#include "worker/kernels/moments.cuh"

namespace cosub::kernels {

struct LambNow {
  float *values, *gradients;
  float gradient_factor, gradient_divisor, decay;
  Moments moments;

  __device__ void prepare(const LambUpdate& a, const LambTensor& tensor) {
    values = a.values;
    gradients = a.gradients;
    gradient_factor = static_cast<float>(a.scalars[kGradientFactor]);
    gradient_divisor =
        a.max_grad_norm > 0 ? static_cast<float>(a.scalars[kGradientNorm] / a.max_grad_norm) : 1.0f;
    moments.prepare(a);
    decay = static_cast<float>(tensor.weight_decay);
  }
  __device__ __forceinline__ float direction(float p, float m, float v) const {
    return m / moments.denominator(v) / moments.correction1 + decay * p;
  }
};

struct LambMoments {
  LambNow now;
  float value_squares, direction_squares;

  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) {
    const Pack<kWidth> g = clipped<kWidth>(now.gradients, at, now.gradient_factor, now.gradient_divisor),
                       p = load<kWidth>(now.values + at);
    Pack<kWidth> m = load<kWidth>(now.moments.exp_avg + at), v = load<kWidth>(now.moments.exp_avg_sq + at);
    for (int i = 0; i < kWidth; ++i) {
      now.moments.follow(g.at[i], m.at[i], v.at[i]);
      const float u = now.direction(p.at[i], m.at[i], v.at[i]);
      value_squares += p.at[i] * p.at[i];
      direction_squares += u * u;
    }
    store(m, now.moments.exp_avg + at);
    store(v, now.moments.exp_avg_sq + at);
  }
};

struct LambStep {
  LambNow now;
  float step_size;  // learning rate and ratio
  EmaNow ema;

  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) const {
    Pack<kWidth> p = load<kWidth>(now.values + at);
    const Pack<kWidth> m = load<kWidth>(now.moments.exp_avg + at),
                       v = load<kWidth>(now.moments.exp_avg_sq + at);
    for (int i = 0; i < kWidth; ++i) p.at[i] -= step_size * now.direction(p.at[i], m.at[i], v.at[i]);
    store(p, now.values + at);
    ema.follow(at, p);
  }
};

__device__ __forceinline__ bool lamb_aligned(const LambUpdate& a) {
  return aligned_for_4(a.values, a.gradients, a.exp_avg, a.exp_avg_sq, a.ema.average);
}

/// A block for a chunk; squares_scratch[2 * chunk] = |p|^2 and |u|^2 of it.
static __global__ void lamb_moments(LambUpdate a) {
  if (a.scalars[kApplies] == 0) return;
  constexpr int kWarps = kUpdateThreads / kWarp;
  __shared__ LambNow shared;
  __shared__ double warp_sums[2][kWarps];
  const LambChunk chunk = a.chunks[blockIdx.x];
  if (threadIdx.x == 0) shared.prepare(a, a.tensors[chunk.tensor]);
  __syncthreads();
  LambMoments moments{shared, 0, 0};
  over_elements(chunk.begin, chunk.end, threadIdx.x, kUpdateThreads, lamb_aligned(a), moments);
  const double squares[2] = {warp_sum(static_cast<double>(moments.value_squares)),
                             warp_sum(static_cast<double>(moments.direction_squares))};
  for (int which = 0; which < 2; ++which)
    if (threadIdx.x % kWarp == 0) warp_sums[which][threadIdx.x / kWarp] = squares[which];
  __syncthreads();
  if (threadIdx.x >= 2) return;
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += warp_sums[threadIdx.x][warp];
  a.squares_scratch[2 * static_cast<std::int64_t>(blockIdx.x) + threadIdx.x] = sum;
}

/// A warp for a tensor.
static __global__ void lamb_ratios(LambUpdate a) {
  if (a.scalars[kApplies] == 0) return;
  const LambTensor tensor = a.tensors[blockIdx.x];
  double value_squares = 0, direction_squares = 0;
  for (std::int64_t chunk = threadIdx.x; chunk < tensor.num_chunks; chunk += kWarp) {
    value_squares += a.squares_scratch[2 * (tensor.first_chunk + chunk)];
    direction_squares += a.squares_scratch[2 * (tensor.first_chunk + chunk) + 1];
  }
  value_squares = warp_sum(value_squares);
  direction_squares = warp_sum(direction_squares);
  if (threadIdx.x != 0) return;
  const bool adapts = tensor.weight_decay != 0 && value_squares > 0 && direction_squares > 0;
  a.ratio_scratch[blockIdx.x] = adapts ? static_cast<float>(sqrt(value_squares / direction_squares)) : 1.0f;
}

static __global__ void lamb_step(LambUpdate a) {
  if (a.scalars[kApplies] == 0) return;
  __shared__ LambStep shared;
  const LambChunk chunk = a.chunks[blockIdx.x];
  if (threadIdx.x == 0) {
    const LambTensor tensor = a.tensors[chunk.tensor];
    shared.now.prepare(a, tensor);
    shared.step_size =
        static_cast<float>(a.scalars[kLearningRate] * tensor.lr_scale * a.ratio_scratch[chunk.tensor]);
    shared.ema.prepare(a.ema, a.scalars[kUpdates]);
  }
  __syncthreads();
  const LambStep step = shared;
  over_elements(chunk.begin, chunk.end, threadIdx.x, kUpdateThreads, lamb_aligned(a), step);
}

inline void run_lamb(const LambUpdate& a, Stream stream) {
  launch("lamb_moments", lamb_moments, {a.num_chunks, 1}, {kUpdateThreads, 1}, stream, a);
  launch("lamb_ratios", lamb_ratios, {a.num_tensors, 1}, {kWarp, 1}, stream, a);
  launch("lamb_step", lamb_step, {a.num_chunks, 1}, {kUpdateThreads, 1}, stream, a);
}

}  // namespace cosub::kernels
