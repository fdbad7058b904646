// Adam's two moments (arXiv 1412.6980), which AdamW and LAMB share.
#pragma once

#include "worker/kernels/update.cuh"

namespace cosub::kernels {

struct Moments {
  float *exp_avg, *exp_avg_sq;
  float correction1, correction2_sqrt, beta1, beta2, rest1, rest2, eps;

  /// a: AdamwUpdate or LambUpdate.
  template <class Update>
  __device__ void prepare(const Update& a) {
    const double t = a.scalars[kUpdates] + 1.0;
    exp_avg = a.exp_avg;
    exp_avg_sq = a.exp_avg_sq;
    correction1 = static_cast<float>(1.0 - pow(a.beta1, t));
    correction2_sqrt = static_cast<float>(sqrt(1.0 - pow(a.beta2, t)));
    beta1 = static_cast<float>(a.beta1);
    beta2 = static_cast<float>(a.beta2);
    rest1 = static_cast<float>(1.0 - a.beta1);
    rest2 = static_cast<float>(1.0 - a.beta2);
    eps = static_cast<float>(a.eps);
  }

  __device__ __forceinline__ void follow(float gradient, float& m, float& v) const {
    m = beta1 * m + rest1 * gradient;
    v = beta2 * v + rest2 * gradient * gradient;
  }
  __device__ __forceinline__ float denominator(float v) const { return sqrtf(v) / correction2_sqrt + eps; }
};

}  // namespace cosub::kernels
