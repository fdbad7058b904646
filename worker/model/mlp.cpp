#include "worker/model/mlp.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <utility>

#include "worker/model/backward_node.h"
#include "worker/model/cpu_products.h"
#include "worker/model/gelu_kernel.h"
#include "worker/model/gradient_in_place.h"
#include "worker/model/kernel_calls.h"
#include "worker/model/linear_node.h"

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

/// d: in place; y: what run_bias_gelu made.
void run_bias_gelu_backward(const at::Tensor& before, const at::Tensor& bias, const at::Tensor& d,
                            const at::Tensor& d_bias, const at::Tensor& y) {
  const kernels::Kernels* found = kernels_for(before);
  if (found == nullptr)
    return bias_gelu_backward(before.const_data_ptr<float>(), d.mutable_data_ptr<float>(), before.size(0),
                              before.size(1), d_bias.mutable_data_ptr<float>(), y.mutable_data_ptr<float>());
  kernels::BiasGeluBackward a;
  a.lines = before.size(0);
  a.channels = before.size(1);
  a.type = kernel_dtype(before);
  const at::Tensor scratch = floats_like(before, {kernels::column_scratch(a.lines, a.channels, 1)});
  a.x = before.const_data_ptr();
  a.bias = bias.const_data_ptr<float>();
  a.d_y = d.const_data_ptr();
  a.d_x = d.mutable_data_ptr();
  a.y = y.mutable_data_ptr();
  a.d_bias = d_bias.mutable_data_ptr<float>();
  a.scratch = scratch.mutable_data_ptr<float>();
  found->bias_gelu_backward(a, StreamOf(before));
}

/// Whether GELU comes in the last pass of the first product, and its gradient's in that of the second's.
bool has_products(const at::Tensor& operand, std::int64_t hidden) {
  const kernels::Kernels* found = kernels_for(operand);
  return found != nullptr && found->gelu_product != nullptr && operand.scalar_type() == at::kBFloat16 &&
         kernels::product_takes(hidden, operand.size(1));
}

struct Hidden {
  at::Tensor y, slope;  // gelu and its derivative
};

Hidden gelu_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  kernels::GeluProduct a;
  a.m = x.size(0);
  a.n = weight.size(0);
  a.k = x.size(1);
  const Hidden made{at::empty({a.m, a.n}, x.options()), at::empty({a.m, a.n}, x.options())};
  a.a = x.const_data_ptr();
  a.b = weight.const_data_ptr();
  a.bias = bias.const_data_ptr<float>();
  a.y = made.y.mutable_data_ptr();
  a.slope = made.slope.mutable_data_ptr();
  kernels_for(x)->gelu_product(a, StreamOf(x));
  return made;
}

/// (d weight) slope; d_bias: its sums over rows.
at::Tensor slope_product(const at::Tensor& d, const at::Tensor& weight, const at::Tensor& slope,
                         const at::Tensor& d_bias) {
  kernels::SlopeProduct a;
  a.m = d.size(0);
  a.n = weight.size(1);
  a.k = d.size(1);
  const at::Tensor made = at::empty_like(slope), scratch = floats_like(d, {kernels::product_tiles(a.m), a.n});
  a.a = d.const_data_ptr();
  a.b = weight.const_data_ptr();
  a.slope = slope.const_data_ptr();
  a.d_x = made.mutable_data_ptr();
  a.d_bias = d_bias.mutable_data_ptr<float>();
  a.scratch = scratch.mutable_data_ptr<float>();
  kernels_for(d)->slope_product(a, StreamOf(d));
  return made;
}

/// Keeps the first product's result, from which GELU's is made anew; where the products make GELU, its result
/// (`hidden`) and its slope instead.
struct MlpNode : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    variable_list found(5);  // x, fc1's weight and bias, fc2's
    if (!gradients.at(0).defined()) return found;
    const at::Tensor d_out = std::exchange(gradients[0], {}).contiguous(), kept = before_or_slope.unpack();
    found[2] = floats_like(kept, {kept.size(1)});
    at::Tensor d;
    {
      at::Tensor y = hidden.unpack();
      if (y.defined()) {
        d = slope_product(aligned_to_16(d_out), weight2.unpack(), kept, found[2]);
      } else {
        d = at::mm(d_out, weight2.unpack());
        y = at::empty_like(kept);
        run_bias_gelu_backward(kept, bias1.unpack(), d, found[2], y);
      }
      if (task_should_compute_output(3)) found[3] = gradient_by_product(next_edge(3), d_out.t(), y);
    }
    if (task_should_compute_output(4)) found[4] = column_sums(d_out);
    if (task_should_compute_output(0)) found[0] = at::mm(d, weight1.unpack()).to(input_dtype);
    if (task_should_compute_output(1)) found[1] = gradient_by_product(next_edge(1), d.t(), x.unpack());
    return found;
  }
  void release_variables() override {
    for (SavedVariable* saved : {&x, &weight1, &bias1, &weight2, &before_or_slope, &hidden})
      saved->reset_data();
  }

  at::ScalarType input_dtype = at::kFloat;
  SavedVariable x, weight1, bias1, weight2, before_or_slope, hidden;
};

/// x [rows, in] -> [rows, out], both products in `dtype`.
at::Tensor fused(const at::Tensor& x, const LinearMap& fc1, const LinearMap& fc2, at::ScalarType dtype) {
  at::Tensor operand, weight1, weight2, y;
  at::Tensor before;  // on a CPU with its bias from run_bias_gelu on
  Hidden hidden;
  {
    const at::NoGradGuard no_grad;
    operand = x.to(dtype);
    weight1 = fc1.weight.to(dtype);
    weight2 = fc2.weight.to(dtype);
    if (has_products(operand, weight1.size(0)) && has_products(operand, weight2.size(0))) {
      operand = aligned_to_16(operand);
      hidden = gelu_product(operand, weight1, fc1.bias);
    } else {
      before = at::mm(operand, weight1.t());
      hidden.y = at::empty_like(before);
      run_bias_gelu(before, fc1.bias, hidden.y);
    }
    y = at::addmm(fc2.bias.to(dtype), hidden.y, weight2.t());
  }
  if (!at::GradMode::is_enabled() ||
      !torch::autograd::any_variable_requires_grad({x, fc1.weight, fc1.bias, fc2.weight, fc2.bias}))
    return y;
  const auto node =
      make_node<MlpNode>(torch::autograd::collect_next_edges(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias));
  count_use(fc1.weight);
  count_use(fc2.weight);
  node->input_dtype = x.scalar_type();
  node->x = SavedVariable(operand, /*is_output=*/false);
  node->weight1 = SavedVariable(weight1, /*is_output=*/false);
  node->bias1 = SavedVariable(fc1.bias, /*is_output=*/false);
  node->weight2 = SavedVariable(weight2, /*is_output=*/false);
  node->before_or_slope = SavedVariable(before.defined() ? before : hidden.slope, /*is_output=*/false);
  if (!before.defined()) node->hidden = SavedVariable(hidden.y, /*is_output=*/false);
  torch::autograd::set_history(y, node);
  return y;
}

bool by_kernels(const at::Tensor& x, const LinearMap& fc1, const LinearMap& fc2) {
  return is_linear_for_kernels(x, fc1.weight, fc1.bias) && is_linear_for_kernels(x, fc2.weight, fc2.bias);
}

bool by_loops(const at::Tensor& x, const LinearMap& fc1, const LinearMap& fc2) {
  return !at::autocast::is_autocast_enabled(at::kCPU) && is_plain(x) && is_plain(fc1.weight) &&
         is_plain(fc1.bias) && is_plain(fc2.weight) && is_plain(fc2.bias);
}

}  // namespace

at::Tensor mlp(const at::Tensor& x, const LinearMap& fc1, const LinearMap& fc2) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = fc2.weight.size(0);
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  if (by_kernels(x, fc1, fc2)) return fused(rows, fc1, fc2, *product_dtype(x)).view(sizes);
  if (by_loops(x, fc1, fc2)) return fused(rows, fc1, fc2, at::kFloat).view(sizes);
  return linear(at::gelu(linear(x, fc1.weight, fc1.bias)), fc2.weight, fc2.bias);
}

}  // namespace cosub::model
