// SGD with momentum by worker/train/sgd.h's formulas, clipping and EMA in the same pass.
#pragma once

#include "worker/kernels/update.cuh"

namespace cosub::kernels {

struct SgdVisitor {
  float *values, *gradients, *momentum_buffer;
  float gradient_factor, decay, lr, momentum;
  bool nesterov, is_first;
  EmaNow ema;

  __device__ void prepare(const SgdUpdate& a) {
    values = a.values;
    gradients = a.gradients;
    momentum_buffer = a.momentum_buffer;
    gradient_factor = static_cast<float>(a.scalars[kGradientFactor]);
    decay = static_cast<float>(a.group.weight_decay);
    lr = static_cast<float>(a.scalars[kLearningRate] * a.group.lr_scale);
    momentum = static_cast<float>(a.momentum);
    nesterov = a.nesterov;
    is_first = a.scalars[kUpdates] == 0;
    ema.prepare(a.ema, a.scalars[kUpdates]);
  }

  template <int kWidth>
  __device__ __forceinline__ void visit(std::int64_t at) const {
    Pack<kWidth> g = clipped<kWidth>(gradients, at, gradient_factor);
    Pack<kWidth> p = load<kWidth>(values + at), b = load<kWidth>(momentum_buffer + at);
    for (int i = 0; i < kWidth; ++i) {
      g.at[i] += decay * p.at[i];
      b.at[i] = is_first ? g.at[i] : momentum * b.at[i] + g.at[i];
      p.at[i] -= lr * (nesterov ? g.at[i] + momentum * b.at[i] : b.at[i]);
    }
    store(p, values + at);
    store(b, momentum_buffer + at);
    ema.follow(at, p);
  }
};

static __global__ void sgd_kernel(SgdUpdate a) {
  if (a.scalars[kApplies] == 0) return;
  __shared__ SgdVisitor shared;
  if (threadIdx.x == 0) shared.prepare(a);
  __syncthreads();
  const SgdVisitor visitor = shared;
  over_elements_of_grid(a.group.begin, a.group.end,
                        aligned_for_4(a.values, a.gradients, a.momentum_buffer, a.ema.average), visitor);
}

inline void run_sgd(const SgdUpdate& a, Stream stream) {
  launch("sgd", sgd_kernel, blocks_of_elements(a.group.end - a.group.begin), {kUpdateThreads, 1}, stream, a);
}

}  // namespace cosub::kernels
