#include "worker/train/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "worker/model/kernel_calls.h"
#include "worker/train/adamw.h"
#include "worker/train/lamb.h"
#include "worker/train/sgd.h"
#include "worker/train/sum_of_squares.h"
#include "worker/train/update_kernels.h"

namespace cosub::train {

std::vector<ParameterGroup> parameter_groups(const FlatState& state,
                                             const std::map<std::string, std::int64_t>& layers,
                                             double layer_decay) {
  std::int64_t last_layer = 0;
  for (const auto& [name, layer] : layers) last_layer = std::max(last_layer, layer);
  std::vector<ParameterGroup> groups;
  for (const Slot& slot : state.parameters()) {
    const bool decays = slot.offset < state.num_decayed();
    const double scale =
        layers.empty() ? 1.0 : std::pow(layer_decay, static_cast<double>(last_layer - layers.at(slot.name)));
    if (groups.empty() || groups.back().decays != decays || groups.back().lr_scale != scale) {
      if (!groups.empty()) groups.back().end = slot.offset;
      groups.push_back({.begin = slot.offset, .lr_scale = scale, .decays = decays});
    }
    groups.back().parameters.push_back(slot);
  }
  if (!groups.empty()) groups.back().end = state.num_parameters();
  return groups;
}

void Optimizer::update(const at::Tensor& values, const at::Tensor& gradients, const UpdateScalars& scalars,
                       Ema* ema) {
  if (const kernels::Kernels* found = update_kernels(values)) {
    const model::StreamOf stream(values);
    return launch({.kernels = *found,
                   .stream = stream,
                   .scalars = scalars.tensor().const_data_ptr<double>(),
                   .values = values.mutable_data_ptr<float>(),
                   .gradients = gradients.mutable_data_ptr<float>(),
                   .ema = ema != nullptr ? ema->rule() : kernels::EmaRule{}});
  }
  const UpdateValues now = scalars.read();
  if (!now.applies) return;
  if (now.gradient_factor < 1) gradients.mul_(now.gradient_factor);
  update(values, gradients, now.updates, now.learning_rate);
  if (ema != nullptr) ema->follow(values, 0, values.numel(), scalars);
}

at::Tensor Optimizer::add_state(const std::string& name, const at::Tensor& like) {
  return state_[name] = at::zeros_like(like);
}

std::unique_ptr<Optimizer> make_optimizer(const config::OptimizerConfig& options,
                                          std::vector<ParameterGroup> groups, const at::Tensor& parameters) {
  if (options.name == "adamw") return std::make_unique<AdamW>(options, std::move(groups), parameters);
  if (options.name == "lamb") return std::make_unique<Lamb>(options, std::move(groups), parameters);
  if (options.name == "sgd") return std::make_unique<Sgd>(options, std::move(groups), parameters);
  throw ConfigError(fmt::format("optimizer.name: found '{}'; allowed: adamw, lamb or sgd", options.name));
}

std::unique_ptr<Optimizer> make_optimizer(const config::OptimizerConfig& options, FlatState& state,
                                          const std::map<std::string, std::int64_t>& layers) {
  return make_optimizer(options, parameter_groups(state, layers, options.layer_decay),
                        state.values().narrow(0, 0, state.num_parameters()));
}

void clip_to_norm(at::Tensor gradients, double norm, double max_norm) {
  if (max_norm <= 0) return;
  double factor = max_norm / (norm + 1e-6);
  if (factor < 1) gradients.mul_(factor);
}

at::Tensor norm_of(const at::Tensor& gradients) {
  if (gradients.is_cpu() && gradients.scalar_type() == at::kFloat && gradients.is_contiguous())
    return at::scalar_tensor(std::sqrt(sum_of_squares(gradients.const_data_ptr<float>(), gradients.numel())),
                             at::kDouble);
  if (const kernels::Kernels* found = update_kernels(gradients)) {
    const at::TensorOptions numbers = gradients.options().dtype(at::kDouble);
    const at::Tensor norm = at::empty({}, numbers), scratch = at::empty({kernels::kNormScratch}, numbers);
    found->norm({.values = gradients.const_data_ptr<float>(),
                 .size = gradients.numel(),
                 .scratch = scratch.mutable_data_ptr<double>(),
                 .norm = norm.mutable_data_ptr<double>()},
                model::StreamOf(gradients));
    return norm;
  }
  return at::linalg_vector_norm(gradients, 2, std::nullopt, false, at::kDouble);
}

double global_norm(const at::Tensor& gradients) {
  return norm_of(gradients).item<double>();
}

}  // namespace cosub::train
