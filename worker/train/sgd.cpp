#include "worker/train/sgd.h"

#include "worker/train/update_kernels.h"

namespace cosub::train {

Sgd::Sgd(config::OptimizerConfig options, std::vector<ParameterGroup> groups, const at::Tensor& parameters)
    : Optimizer(std::move(options), std::move(groups)),
      momentum_buffer_(add_state("momentum_buffer", parameters)) {}

void Sgd::update(at::Tensor values, at::Tensor gradients, std::int64_t step, double learning_rate) {
  at::NoGradGuard no_grad;
  for (const ParameterGroup& group : groups_) {
    const auto part = [&](const at::Tensor& flat) {
      return flat.narrow(0, group.begin, group.end - group.begin);
    };
    // LibTorch's kernel wants no buffers without momentum.
    const std::vector<at::Tensor> buffers =
        options_.momentum == 0 ? std::vector<at::Tensor>() : std::vector{part(momentum_buffer_)};
    at::_fused_sgd_({part(values)}, {part(gradients)}, buffers, group.decays ? options_.weight_decay : 0.0,
                    options_.momentum, learning_rate * group.lr_scale, /*dampening=*/0.0, options_.nesterov,
                    /*maximize=*/false,
                    /*is_first_step=*/step == 0);
  }
}

void Sgd::launch(const Launch& with) {
  for (const ParameterGroup& group : groups_) {
    with.kernels.sgd({.group = kernel_group(group, options_.weight_decay),
                      .scalars = with.scalars,
                      .values = with.values,
                      .gradients = with.gradients,
                      .momentum_buffer = momentum_buffer_.mutable_data_ptr<float>(),
                      .ema = with.ema,
                      .momentum = options_.momentum,
                      .nesterov = options_.nesterov},
                     with.stream);
  }
}

}  // namespace cosub::train
