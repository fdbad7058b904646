#include "worker/model/linear_node.h"

#include <ATen/autocast_mode.h>

#include <optional>
#include <utility>

#include "worker/model/gradient_in_place.h"
#include "worker/model/kernel_calls.h"
#include "worker/model/linear_backward.h"

namespace cosub::model {
namespace {

using torch::autograd::variable_list;

struct LinearNode : public LinearBackward {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    if (!gradients.at(0).defined()) return variable_list(3);
    const at::Tensor d = std::exchange(gradients[0], {}).contiguous();
    return gradients_of(d.view({-1, d.size(-1)}), {});
  }
};

struct ProjectNode : public LinearBackward {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    std::array<at::Tensor, 3> parts;  // [N, tokens, heads, width]
    kernels::JoinColumns a;
    const at::Tensor operand = x.unpack();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const at::Tensor d = std::exchange(gradients.at(i), {});
      parts[i] = d.defined() ? d.transpose(1, 2).to(operand.scalar_type()).contiguous()
                             : at::zeros(part_sizes, operand.options());
      a.parts[i] = parts[i].const_data_ptr();
    }
    a.lines = operand.size(0);
    a.channels = parts[0].size(2) * parts[0].size(3);
    a.type = kernel_dtype(operand);
    const at::Tensor joined = at::empty({a.lines, 3 * a.channels}, operand.options());
    a.joined = joined.mutable_data_ptr();
    at::Tensor sums, scratch;
    if (has_bias) {
      sums = floats_like(operand, {3 * a.channels});
      scratch = floats_like(operand, {kernels::column_scratch(a.lines, 3 * a.channels, 1)});
    }
    a.sums = float_address(sums);
    a.scratch = float_address(scratch);
    kernels_for(operand)->join_columns(a, StreamOf(operand));
    return gradients_of(joined, std::move(sums));
  }

  std::vector<std::int64_t> part_sizes;
};

}  // namespace

variable_list LinearBackward::gradients_of(const at::Tensor& d, at::Tensor d_bias) {
  variable_list found(3);
  if (task_should_compute_output(0)) found[0] = at::mm(d, weight.unpack()).to(input_dtype).view(input_sizes);
  if (task_should_compute_output(1)) found[1] = gradient_by_product(next_edge(1), d.t(), x.unpack());
  if (has_bias && task_should_compute_output(2))
    found[2] = d_bias.defined() ? std::move(d_bias) : column_sums(d);
  return found;
}

Operands operands_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::ScalarType dtype = *product_dtype(x);
  return {x.reshape({-1, x.size(-1)}).to(dtype), weight.to(dtype), bias.defined() ? bias.to(dtype) : bias};
}

at::Tensor product_of(const Operands& in) {
  return in.bias.defined() ? at::addmm(in.bias, in.x, in.weight.t()) : at::mm(in.x, in.weight.t());
}

bool differentiates(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::GradMode::is_enabled() && torch::autograd::any_variable_requires_grad({x, weight, bias});
}

bool is_linear_for_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return is_result_for_kernels(x) && is_plain_for_kernels(weight) &&
         (!bias.defined() || is_plain_for_kernels(bias)) && x.numel() > 0 && product_dtype(x).has_value();
}

bool is_linear_on_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return is_plain(x) && is_plain(weight) && (!bias.defined() || is_plain(bias)) && x.numel() > 0 &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

at::Tensor linear_by_node(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  Operands operands;
  at::Tensor y;
  {
    const at::NoGradGuard no_grad;
    operands = operands_of(x, weight, bias);
    y = product_of(operands).view(sizes);
  }
  if (!differentiates(x, weight, bias)) return y;
  torch::autograd::set_history(y, node_for<LinearNode>(x, weight, bias, operands));
  return y;
}

std::array<at::Tensor, 3> project_by_kernels(const at::Tensor& x, const at::Tensor& weight,
                                             const at::Tensor& bias, std::int64_t heads) {
  const std::int64_t width = weight.size(0) / 3 / heads;
  Operands operands;
  std::vector<at::Tensor> parts;
  {
    const at::NoGradGuard no_grad;
    operands = operands_of(x, weight, bias);
    const at::Tensor joined = product_of(operands).view({x.size(0), x.size(1), 3, heads, width});
    for (std::int64_t i = 0; i < 3; ++i) parts.push_back(joined.select(2, i).transpose(1, 2).detach());
  }
  if (differentiates(x, weight, bias)) {
    const auto node = node_for<ProjectNode>(x, weight, bias, operands);
    node->part_sizes = {x.size(0), x.size(1), heads, width};
    torch::autograd::set_history(parts, node);
  }
  return {parts[0], parts[1], parts[2]};
}

at::Tensor product_in_float(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cuda() && a.scalar_type() != at::kFloat) return at::mm(a, b, at::kFloat);
  return at::mm(a, b).to(at::kFloat);
}

at::Tensor column_sums(const at::Tensor& x) {
  if (kernels_for(x) == nullptr) return x.sum(0);
  kernels::ColumnSums a;
  a.lines = x.size(0);
  a.channels = x.size(1);
  a.type = kernel_dtype(x);
  const at::Tensor sums = floats_like(x, {a.channels}),
                   scratch = floats_like(x, {kernels::column_scratch(a.lines, a.channels, 1)});
  a.x = x.const_data_ptr();
  a.sums = float_address(sums);
  a.scratch = float_address(scratch);
  kernels_for(x)->column_sums(a, StreamOf(x));
  return sums;
}

}  // namespace cosub::model
