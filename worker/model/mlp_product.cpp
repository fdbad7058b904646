#include "worker/model/mlp_product.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "worker/model/backward_node.h"
#include "worker/model/cpu_products.h"
#include "worker/model/gelu_kernel.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

struct LinearGelu : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    if (!gradients.at(0).defined()) return variable_list(3);
    const at::Tensor before = before_gelu.unpack();
    const at::Tensor d = made_ours(std::move(gradients.at(0)));
    at::Tensor d_bias = at::empty({before.size(1)}, before.options());
    bias_gelu_backward(before.const_data_ptr<float>(), d.mutable_data_ptr<float>(), before.size(0),
                       before.size(1), d_bias.mutable_data_ptr<float>());
    variable_list found = {at::Tensor(), at::Tensor(), std::move(d_bias)};
    if (task_should_compute_output(0)) found[0] = at::mm(d, weight.unpack());
    if (task_should_compute_output(1)) found[1] = at::mm(d.t(), x.unpack());
    return found;
  }
  void release_variables() override {
    for (SavedVariable* saved : {&x, &weight, &before_gelu}) saved->reset_data();
  }

  SavedVariable x, weight, before_gelu;
};

/// x [rows, in] -> [rows, out]
at::Tensor fused(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor before, y;
  {
    const at::NoGradGuard no_grad;
    before = at::mm(x, weight.t());  // with its bias from bias_gelu on
    y = at::empty_like(before);
    bias_gelu(before.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), before.size(0), before.size(1),
              y.mutable_data_ptr<float>());
  }
  if (!at::GradMode::is_enabled() || !(x.requires_grad() || weight.requires_grad() || bias.requires_grad()))
    return y;
  const auto node = make_node<LinearGelu>(torch::autograd::collect_next_edges(x, weight, bias));
  node->x = SavedVariable(x, /*is_output=*/false);
  node->weight = SavedVariable(weight, /*is_output=*/false);
  node->before_gelu = SavedVariable(before, /*is_output=*/false);
  torch::autograd::set_history(y, node);
  return y;
}

}  // namespace

at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const bool autocasts = at::autocast::is_autocast_enabled(at::kCPU);
  if (autocasts || !is_plain(x) || !is_plain(weight) || !is_plain(bias))
    return at::gelu(linear(x, weight, bias));
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return fused(x.reshape({-1, x.size(-1)}), weight, bias).view(sizes);
}

}  // namespace cosub::model
