#include "worker/train/lamb.h"

#include <cmath>

#include "worker/kernels/lamb_tables.h"
#include "worker/train/update_kernels.h"

namespace cosub::train {

Lamb::Lamb(config::OptimizerConfig options, std::vector<ParameterGroup> groups, const at::Tensor& parameters)
    : Optimizer(std::move(options), std::move(groups)),
      exp_avg_(add_state("exp_avg", parameters)),
      exp_avg_sq_(add_state("exp_avg_sq", parameters)) {}

void Lamb::make_tables(at::Device device) {
  std::vector<kernels::UpdateGroup> tensors;
  for (const ParameterGroup& group : groups_) {
    for (const Slot& slot : group.parameters) {
      tensors.push_back(kernel_group(group, options_.weight_decay));
      tensors.back().begin = slot.offset;
      tensors.back().end = slot.offset + slot.numel;
    }
  }
  const kernels::LambTables tables = kernels::lamb_tables(tensors);
  num_tensors_ = static_cast<std::int64_t>(tables.tensors.size());
  num_chunks_ = static_cast<std::int64_t>(tables.chunks.size());
  tensors_ = on_device(tables.tensors, device);
  chunks_ = on_device(tables.chunks, device);
  squares_ = at::zeros({2 * num_chunks_}, at::dtype(at::kDouble).device(device));
  ratios_ = at::zeros({num_tensors_}, at::dtype(at::kFloat).device(device));
}

void Lamb::launch(const Launch& with) {
  if (!tensors_.defined()) make_tables(exp_avg_.device());
  with.kernels.lamb({.tensors = static_cast<const kernels::LambTensor*>(tensors_.const_data_ptr()),
                     .chunks = static_cast<const kernels::LambChunk*>(chunks_.const_data_ptr()),
                     .num_tensors = num_tensors_,
                     .num_chunks = num_chunks_,
                     .scalars = with.scalars,
                     .values = with.values,
                     .gradients = with.gradients,
                     .exp_avg = exp_avg_.mutable_data_ptr<float>(),
                     .exp_avg_sq = exp_avg_sq_.mutable_data_ptr<float>(),
                     .ema = with.ema,
                     .beta1 = options_.beta1,
                     .beta2 = options_.beta2,
                     .eps = config::eps_of(options_),
                     .max_grad_norm = options_.max_grad_norm,
                     .squares_scratch = squares_.mutable_data_ptr<double>(),
                     .ratio_scratch = ratios_.mutable_data_ptr<float>()},
                    with.stream);
}

void Lamb::update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) {
  at::NoGradGuard no_grad;
  if (!direction_.defined()) {
    direction_ = at::zeros_like(exp_avg_);
    scratch_ = at::zeros_like(exp_avg_);
  }
  if (options_.max_grad_norm > 0) {
    gradients.div_(norm_of(gradients).div_(options_.max_grad_norm).clamp_min_(1.0));
  }
  const double t = static_cast<double>(step + 1);
  const double correction1 = 1 - std::pow(options_.beta1, t), correction2 = 1 - std::pow(options_.beta2, t);
  exp_avg_.mul_(options_.beta1).add_(gradients, 1 - options_.beta1);
  exp_avg_sq_.mul_(options_.beta2).addcmul_(gradients, gradients, 1 - options_.beta2);
  at::sqrt_out(scratch_, exp_avg_sq_).div_(std::sqrt(correction2)).add_(config::eps_of(options_));
  at::div_out(direction_, exp_avg_, scratch_).div_(correction1);
  for (const ParameterGroup& group : groups_) {
    const auto part = [&](const at::Tensor& flat) {
      return flat.narrow(0, group.begin, group.end - group.begin);
    };
    if (group.decays && options_.weight_decay != 0) {
      part(direction_).add_(part(values), options_.weight_decay);
      adapt(group, values);
    }
    part(values).sub_(part(direction_), learning_rate * group.lr_scale);
  }
}

/// The trust ratios of the group's tensors, all norms and products in one call each.
void Lamb::adapt(const ParameterGroup& group, const at::Tensor& values) const {
  std::vector<at::Tensor> weights, directions;
  for (const Slot& slot : group.parameters) {
    weights.push_back(values.narrow(0, slot.offset, slot.numel));
    directions.push_back(direction_.narrow(0, slot.offset, slot.numel));
  }
  const at::Tensor weight_norms = at::stack(at::_foreach_norm(weights));
  const at::Tensor direction_norms = at::stack(at::_foreach_norm(directions));
  const at::Tensor both = weight_norms.gt(0).logical_and_(direction_norms.gt(0));
  const at::Tensor ratios = at::where(both, weight_norms / direction_norms, at::ones_like(weight_norms));
  at::_foreach_mul_(directions, ratios.unbind(0));
}

}  // namespace cosub::train
