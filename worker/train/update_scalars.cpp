#include "worker/train/update_scalars.h"

namespace cosub::train {

UpdateValues UpdateScalars::read() const {
  const at::Tensor host = tensor_.cpu();
  const double* numbers = host.const_data_ptr<double>();
  return {.applies = numbers[kApplies] != 0,
          .updates = static_cast<std::int64_t>(numbers[kUpdates]),
          .learning_rate = numbers[kLearningRate],
          .gradient_factor = numbers[kGradientFactor],
          .gradient_norm = numbers[kGradientNorm]};
}

at::Tensor clip_factor(const at::Tensor& norm, double max_norm) {
  if (max_norm <= 0) return at::ones_like(norm);
  return at::full_like(norm, max_norm).div_(norm + 1e-6).clamp_max_(1.0);
}

}  // namespace cosub::train
