// LAMB (You et al., arXiv 1904.00962) as timm.optim.Lamb of timm 1.0.31 computes it, which DeiT III trains
// with:
//   g /= max(1, |all gradients| / max_grad_norm)
//   m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   u = m / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + eps) + wd p
//   p -= lr * r * u,  r = |p| / |u| by parameter tensor where both are above 0, else 1
// Parameters without weight decay are not adapted: r = 1. The norms stay on the device.
#pragma once

#include "worker/train/optimizer.h"

namespace cosub::train {

class Lamb final : public Optimizer {
 public:
  using Optimizer::update;
  /// parameters: [n], for size, dtype and device.
  Lamb(config::OptimizerConfig options, std::vector<ParameterGroup> groups, const at::Tensor& parameters);
  void update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) override;

 protected:
  void launch(const Launch& with) override;

 private:
  void adapt(const ParameterGroup& group, const at::Tensor& values) const;
  void make_tables(at::Device device);

  at::Tensor exp_avg_, exp_avg_sq_;
  at::Tensor direction_, scratch_;  // kept from step to step: u, and the denominator; not with kernels
  // Of the kernels, on the device: lamb_tables.h's tables, and room for norms and ratios.
  at::Tensor tensors_, chunks_, squares_, ratios_;
  std::int64_t num_tensors_ = 0, num_chunks_ = 0;
};

}  // namespace cosub::train
