#include "worker/model/mlp_product.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "worker/model/backward_node.h"
#include "worker/model/cpu_products.h"
#include "worker/model/gelu_kernel.h"
#include "worker/model/kernel_calls.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// before [rows, width], without its bias on a GPU; there the sum with it is made anew in the backward pass,
/// so that the product's result is not written twice.
void run_bias_gelu(const at::Tensor& before, const at::Tensor& bias, const at::Tensor& y) {
  const kernels::Kernels* found = kernels_for(before);
  if (found == nullptr)
    return bias_gelu(before.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), before.size(0),
                     before.size(1), y.mutable_data_ptr<float>());
  kernels::BiasGelu a;
  a.lines = before.size(0);
  a.channels = before.size(1);
  a.type = kernel_dtype(before);
  a.x = before.const_data_ptr();
  a.bias = bias.const_data_ptr<float>();
  a.y = y.mutable_data_ptr();
  found->bias_gelu(a, StreamOf(before));
}

/// d: in place.
void run_bias_gelu_backward(const at::Tensor& before, const at::Tensor& bias, const at::Tensor& d,
                            const at::Tensor& d_bias) {
  const kernels::Kernels* found = kernels_for(before);
  if (found == nullptr)
    return bias_gelu_backward(before.const_data_ptr<float>(), d.mutable_data_ptr<float>(), before.size(0),
                              before.size(1), d_bias.mutable_data_ptr<float>());
  kernels::BiasGeluBackward a;
  a.lines = before.size(0);
  a.channels = before.size(1);
  a.type = kernel_dtype(before);
  const at::Tensor scratch = floats_like(before, {kernels::column_scratch(a.lines, a.channels, 1)});
  a.x = before.const_data_ptr();
  a.bias = bias.const_data_ptr<float>();
  a.d_y = d.const_data_ptr();
  a.d_x = d.mutable_data_ptr();
  a.d_bias = d_bias.mutable_data_ptr<float>();
  a.scratch = scratch.mutable_data_ptr<float>();
  found->bias_gelu_backward(a, StreamOf(before));
}

struct LinearGelu : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    if (!gradients.at(0).defined()) return variable_list(3);
    const at::Tensor before = before_gelu.unpack();
    const at::Tensor d = made_ours(std::move(gradients.at(0)));
    at::Tensor d_bias = floats_like(before, {before.size(1)});
    run_bias_gelu_backward(before, bias.unpack(), d, d_bias);
    variable_list found = {at::Tensor(), at::Tensor(), std::move(d_bias)};
    if (task_should_compute_output(0)) found[0] = at::mm(d, weight.unpack());
    if (task_should_compute_output(1)) found[1] = at::mm(d.t(), x.unpack());
    return found;
  }
  void release_variables() override {
    for (SavedVariable* saved : {&x, &weight, &bias, &before_gelu}) saved->reset_data();
  }

  SavedVariable x, weight, bias, before_gelu;
};

/// x [rows, in] and weight of one dtype, bias float32 -> [rows, out]
at::Tensor fused(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor before, y;
  {
    const at::NoGradGuard no_grad;
    before = at::mm(x, weight.t());  // on a CPU with its bias from here on
    y = at::empty_like(before);
    run_bias_gelu(before, bias, y);
  }
  if (!at::GradMode::is_enabled() || !(x.requires_grad() || weight.requires_grad() || bias.requires_grad()))
    return y;
  const auto node = make_node<LinearGelu>(torch::autograd::collect_next_edges(x, weight, bias));
  node->x = SavedVariable(x, /*is_output=*/false);
  node->weight = SavedVariable(weight, /*is_output=*/false);
  node->bias = SavedVariable(bias, /*is_output=*/false);
  node->before_gelu = SavedVariable(before, /*is_output=*/false);
  torch::autograd::set_history(y, node);
  return y;
}

bool by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return is_result_for_kernels(x) && is_plain_for_kernels(weight) && is_plain_for_kernels(bias) &&
         x.numel() > 0 && product_dtype(x).has_value();
}

bool by_loops(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return !at::autocast::is_autocast_enabled(at::kCPU) && is_plain(x) && is_plain(weight) && is_plain(bias);
}

}  // namespace

at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  if (by_kernels(x, weight, bias)) {
    const at::ScalarType dtype = *product_dtype(x);
    return fused(x.reshape({-1, x.size(-1)}).to(dtype), weight.to(dtype), bias).view(sizes);
  }
  if (!by_loops(x, weight, bias)) return at::gelu(linear(x, weight, bias));
  return fused(x.reshape({-1, x.size(-1)}), weight, bias).view(sizes);
}

}  // namespace cosub::model
