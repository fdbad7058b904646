// What an update reads besides gradients, on the parameters' device: on a GPU the host neither knows nor
// waits for these numbers, so that it can queue the next step meanwhile, and a step can be replayed as a
// CUDA graph. (PyTorch's fused optimizers take found_inf and the count of steps in the same way.)
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace cosub::train {

struct UpdateValues {
  bool applies = true;       // false: the step is left out and must change nothing
  std::int64_t updates = 0;  // made before this one
  double learning_rate = 0;
  double gradient_factor = 1;  // clipping: what gradients are multiplied by
  double gradient_norm = 0;    // L2, after that
};

class UpdateScalars {
 public:
  enum Place : std::int64_t { kApplies, kUpdates, kLearningRate, kGradientFactor, kGradientNorm, kSize };

  explicit UpdateScalars(at::Device device)
      : tensor_(at::zeros({kSize}, at::dtype(at::kDouble).device(device))) {}
  const at::Tensor& tensor() const { return tensor_; }  // [kSize], float64
  at::Tensor at(Place place) const { return tensor_.select(0, place); }
  /// On a GPU this waits for all that is queued.
  UpdateValues read() const;

 private:
  at::Tensor tensor_;
};

/// factor: [] float64, by which gradients of L2 norm `norm` ([] float64) come to at most max_norm (0: any),
/// as torch.nn.utils.clip_grad_norm_ has it.
at::Tensor clip_factor(const at::Tensor& norm, double max_norm);

}  // namespace cosub::train
