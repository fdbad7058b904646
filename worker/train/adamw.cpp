#include "worker/train/adamw.h"

#include "worker/train/update_kernels.h"

namespace cosub::train {

AdamW::AdamW(config::OptimizerConfig options, std::vector<ParameterGroup> groups,
             const at::Tensor& parameters)
    : Optimizer(std::move(options), std::move(groups)),
      exp_avg_(add_state("exp_avg", parameters)),
      exp_avg_sq_(add_state("exp_avg_sq", parameters)) {}

void AdamW::update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) {
  at::NoGradGuard no_grad;
  const at::Tensor count =
      at::full({}, static_cast<double>(step + 1), values.options().dtype(at::kFloat));  // as torch keeps it
  for (const ParameterGroup& group : groups_) {
    const auto part = [&](const at::Tensor& flat) {
      return flat.narrow(0, group.begin, group.end - group.begin);
    };
    at::_fused_adamw_({part(values)}, {part(gradients)}, {part(exp_avg_)}, {part(exp_avg_sq_)}, {}, {count},
                      learning_rate * group.lr_scale, options_.beta1, options_.beta2,
                      group.decays ? options_.weight_decay : 0.0, config::eps_of(options_), /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

void AdamW::launch(const Launch& with) {
  for (const ParameterGroup& group : groups_) {
    with.kernels.adamw({.group = kernel_group(group, options_.weight_decay),
                        .scalars = with.scalars,
                        .values = with.values,
                        .gradients = with.gradients,
                        .exp_avg = exp_avg_.mutable_data_ptr<float>(),
                        .exp_avg_sq = exp_avg_sq_.mutable_data_ptr<float>(),
                        .ema = with.ema,
                        .beta1 = options_.beta1,
                        .beta2 = options_.beta2,
                        .eps = config::eps_of(options_)},
                       with.stream);
  }
}

}  // namespace cosub::train
