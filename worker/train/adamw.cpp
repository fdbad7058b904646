#include "worker/train/adamw.h"

namespace cosub::train {

AdamW::AdamW(const config::OptimizerConfig& options, std::int64_t num_decayed, std::int64_t num_parameters,
             at::Device device)
    : options_(options), num_decayed_(num_decayed) {
  at::TensorOptions kind = at::TensorOptions().dtype(at::kFloat).device(device);
  exp_avg_ = at::zeros({num_parameters}, kind);
  exp_avg_sq_ = at::zeros({num_parameters}, kind);
}

void AdamW::update(at::Tensor values, const at::Tensor& gradients, std::int64_t step, double learning_rate) {
  at::NoGradGuard no_grad;
  at::Tensor count = at::full({}, static_cast<double>(step + 1), exp_avg_.options());
  auto update_part = [&](std::int64_t begin, std::int64_t end, double weight_decay) {
    if (begin == end) return;
    auto part = [&](const at::Tensor& flat) { return flat.narrow(0, begin, end - begin); };
    at::_fused_adamw_({part(values)}, {part(gradients)}, {part(exp_avg_)}, {part(exp_avg_sq_)}, {}, {count},
                      learning_rate, options_.beta1, options_.beta2, weight_decay, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  };
  update_part(0, num_decayed_, options_.weight_decay);
  update_part(num_decayed_, exp_avg_.numel(), 0.0);
}

void clip_to_norm(at::Tensor gradients, double norm, double max_norm) {
  if (max_norm <= 0) return;
  double factor = max_norm / (norm + 1e-6);
  if (factor < 1) gradients.mul_(factor);
}

double global_norm(const at::Tensor& gradients) {
  return at::linalg_vector_norm(gradients, 2, std::nullopt, false, at::kDouble).item<double>();
}

}  // namespace cosub::train
