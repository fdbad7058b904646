// Gradients of weights by products that write them where a step's vector has them. A backward pass of
// LibTorch makes such a gradient and then adds it to the parameter's: two passes over memory more. Where that
// one is known to be zero, and one node alone leads there, the node's product writes it; the engine goes on
// as after an addition, hooks included.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/edge.h>

#include <vector>

namespace cosub::model {

/// By whoever has just filled the gradients of all parameters, bound beforehand, with zeros, before the
/// forward pass: they may be written in the backward pass that follows. What was told before is forgotten.
/// Who never calls it has gradients added to, as usual.
void gradients_are_zero(const std::vector<at::Tensor>& parameters);

/// In a forward pass, by who makes a node that calls gradient_by_product for this parameter. Other uses of it
/// in the same pass, by operators of LibTorch, must not be.
void count_use(const at::Tensor& parameter);

/// In that node's backward pass: a b, matrices of one dtype, float32. Undefined where it is written to the
/// parameter that the edge leads to: gradients of that are zero (above), it is counted once, and the pass is
/// one that adds to parameters (not torch::autograd::grad).
at::Tensor gradient_by_product(const torch::autograd::Edge& parameter, const at::Tensor& a,
                               const at::Tensor& b);

}  // namespace cosub::model
