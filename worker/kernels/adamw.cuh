// AdamW (arXiv 1711.05101) by worker/train/adamw.h's formulas, clipping and EMA in the same pass.
#pragma once

#include "worker/kernels/update.cuh"

namespace cosub::kernels {

struct AdamwVisitor {
  float *values, *gradients, *exp_avg, *exp_avg_sq;
  float gradient_factor, keep, step_size, correction2_sqrt, beta1, beta2, rest1, rest2, eps;
  EmaNow ema;

  __device__ void prepare(const AdamwUpdate& a) {
    const double t = a.scalars[kUpdates] + 1.0, lr = a.scalars[kLearningRate] * a.group.lr_scale;
    values = a.values;
    gradients = a.gradients;
    exp_avg = a.exp_avg;
    exp_avg_sq = a.exp_avg_sq;
    gradient_factor = static_cast<float>(a.scalars[kGradientFactor]);
    keep = static_cast<float>(1.0 - lr * a.group.weight_decay);
    step_size = static_cast<float>(lr / (1.0 - pow(a.beta1, t)));
    correction2_sqrt = static_cast<float>(sqrt(1.0 - pow(a.beta2, t)));
    beta1 = static_cast<float>(a.beta1);
    beta2 = static_cast<float>(a.beta2);
    rest1 = static_cast<float>(1.0 - a.beta1);
    rest2 = static_cast<float>(1.0 - a.beta2);
    eps = static_cast<float>(a.eps);
    ema.prepare(a.ema, a.scalars[kUpdates]);
  }

  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) const {
    const Pack<kWidth> g = clipped<kWidth>(gradients, at, gradient_factor);
    Pack<kWidth> p = load<kWidth>(values + at), m = load<kWidth>(exp_avg + at),
                 v = load<kWidth>(exp_avg_sq + at);
    for (int i = 0; i < kWidth; ++i) {
      m.at[i] = beta1 * m.at[i] + rest1 * g.at[i];
      v.at[i] = beta2 * v.at[i] + rest2 * g.at[i] * g.at[i];
      p.at[i] = keep * p.at[i] - step_size * m.at[i] / (sqrtf(v.at[i]) / correction2_sqrt + eps);
    }
    store(p, values + at);
    store(m, exp_avg + at);
    store(v, exp_avg_sq + at);
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
