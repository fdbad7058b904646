// AdamW (arXiv 1711.05101) by worker/train/adamw.h's formulas, clipping and EMA in the same pass.
#pragma once

#include "worker/kernels/moments.cuh"

namespace cosub::kernels {

struct AdamwVisitor {
  float *values, *gradients;
  float gradient_factor, keep, step_size;
  Moments moments;
  EmaNow ema;

  __device__ void prepare(const AdamwUpdate& a) {
    const double t = a.scalars[kUpdates] + 1.0, lr = a.scalars[kLearningRate] * a.group.lr_scale;
    values = a.values;
    gradients = a.gradients;
    gradient_factor = static_cast<float>(a.scalars[kGradientFactor]);
    keep = static_cast<float>(1.0 - lr * a.group.weight_decay);
    step_size = static_cast<float>(lr / (1.0 - pow(a.beta1, t)));
    moments.prepare(a);
    ema.prepare(a.ema, a.scalars[kUpdates]);
  }

  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) const {
    const Pack<kWidth> g = clipped<kWidth>(gradients, at, gradient_factor);
    Pack<kWidth> p = load<kWidth>(values + at), m = load<kWidth>(moments.exp_avg + at),
                 v = load<kWidth>(moments.exp_avg_sq + at);
    for (int i = 0; i < kWidth; ++i) {
      moments.follow(g.at[i], m.at[i], v.at[i]);
      p.at[i] = keep * p.at[i] - step_size * m.at[i] / moments.denominator(v.at[i]);
    }
    store(p, values + at);
    store(m, moments.exp_avg + at);
    store(v, moments.exp_avg_sq + at);
    ema.follow(at, p);
  }
};

static __global__ void adamw_kernel(AdamwUpdate a) {
  if (a.scalars[kApplies] == 0) return;
  __shared__ AdamwVisitor shared;
  if (threadIdx.x == 0) shared.prepare(a);
  __syncthreads();
  const AdamwVisitor visitor = shared;
  over_elements_of_grid(a.group.begin, a.group.end,
                        aligned_for_4(a.values, a.gradients, a.exp_avg, a.exp_avg_sq, a.ema.average),
                        visitor);
}

inline void run_adamw(const AdamwUpdate& a, Stream stream) {
  launch("adamw", adamw_kernel, blocks_of_elements(a.group.end - a.group.begin), {kUpdateThreads, 1}, stream,
         a);
}

}  // namespace cosub::kernels
