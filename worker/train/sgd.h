// Stochastic gradient descent with momentum as torch.optim.SGD computes it (dampening 0), by LibTorch's fused
// kernel:
//   g += wd * p;  b = mu b + g (b = g at the first update);  p -= lr * (g + mu b) with nesterov, else lr * b
// Without momentum b is g, and nothing is remembered.
// Weight decay is L2 regularisation of the gradient, as the published ResNet and RegNet recipes have it
// (arXiv 1512.03385, 2003.13678), and applies by parameter group.
#pragma once

#include "worker/train/optimizer.h"

namespace cosub::train {

class Sgd final : public Optimizer {
 public:
  using Optimizer::update;
  /// parameters: [n], for size, dtype and device.
  Sgd(config::OptimizerConfig options, std::vector<ParameterGroup> groups, const at::Tensor& parameters);
  void update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) override;

 protected:
  void launch(const Launch& with) override;

 private:
  at::Tensor momentum_buffer_;
};

}  // namespace cosub::train
