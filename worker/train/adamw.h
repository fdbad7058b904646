// AdamW (Loshchilov & Hutter, arXiv 1711.05101) as torch.optim.AdamW computes it, by LibTorch's fused kernel:
//   p -= lr * wd * p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
// with lr scaled and wd applied by parameter group.
#pragma once

#include "worker/train/optimizer.h"

namespace cosub::train {

class AdamW final : public Optimizer {
 public:
  using Optimizer::update;
  /// parameters: [n], for size, dtype and device.
  AdamW(config::OptimizerConfig options, std::vector<ParameterGroup> groups, const at::Tensor& parameters);
  void update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) override;

 protected:
  void launch(const Launch& with) override;

 private:
  at::Tensor exp_avg_, exp_avg_sq_;
};

}  // namespace cosub::train
