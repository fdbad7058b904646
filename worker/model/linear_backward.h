// What the nodes share that begin with a linear map on a GPU (linear_node.h, device_attention.h).
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <vector>

#include "worker/model/backward_node.h"
#include "worker/model/gradient_in_place.h"

namespace cosub::model {

/// Of the products' dtype; x [rows, in]; the bias may be undefined.
struct Operands {
  at::Tensor x, weight, bias;
};
Operands operands_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// [rows, out]
at::Tensor product_of(const Operands& in);

/// Keeps the operands; knows the gradients of x, weight and bias, which are its inputs in that order.
struct LinearBackward : public torch::autograd::Node {
  /// d [rows, out], contiguous, of the products' dtype; d_bias: undefined: to be summed here.
  torch::autograd::variable_list gradients_of(const at::Tensor& d, at::Tensor d_bias);
  void release_variables() override {
    x.reset_data();
    weight.reset_data();
  }

  torch::autograd::SavedVariable x, weight;
  std::vector<std::int64_t> input_sizes;
  at::ScalarType input_dtype = at::kFloat;
  bool has_bias = false;
};

bool differentiates(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

template <typename NodeKind>
std::shared_ptr<NodeKind> node_for(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                   const Operands& operands) {
  const auto node = make_node<NodeKind>(torch::autograd::collect_next_edges(x, weight, bias));
  node->x = torch::autograd::SavedVariable(operands.x, /*is_output=*/false);
  node->weight = torch::autograd::SavedVariable(operands.weight, /*is_output=*/false);
  count_use(weight);
  node->input_dtype = x.scalar_type();
  node->input_sizes = x.sizes().vec();
  node->has_bias = bias.defined();
  return node;
}

}  // namespace cosub::model
