// AdamW (Loshchilov & Hutter, arXiv 1711.05101) as torch.optim.AdamW computes it, over flat vectors:
//   p -= lr * wd * p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
// Weight decay applies to the first `num_decayed` floats only. Used by the trainer's thread.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "common/config/pipeline.h"

namespace cosub::train {

class AdamW {
 public:
  AdamW(const config::OptimizerConfig& options, std::int64_t num_decayed, std::int64_t num_parameters,
        at::Device device = at::kCPU);

  /// values, gradients: [num_parameters] float32, values changed in place. `step` counts updates from 0.
  void update(at::Tensor values, const at::Tensor& gradients, std::int64_t step, double learning_rate);

  at::Tensor& exp_avg() { return exp_avg_; }        // [num_parameters], first moment
  at::Tensor& exp_avg_sq() { return exp_avg_sq_; }  // second moment

 private:
  config::OptimizerConfig options_;
  std::int64_t num_decayed_;
  at::Tensor exp_avg_, exp_avg_sq_;
};

/// Scales `gradients` in place so that their L2 norm is at most max_norm (0: leaves them), as
/// torch.nn.utils.clip_grad_norm_ does. `norm` is what global_norm returned for them.
void clip_to_norm(at::Tensor gradients, double norm, double max_norm);

/// L2 norm in double precision, summed in one fixed order for one thread count.
double global_norm(const at::Tensor& gradients);

}  // namespace cosub::train
