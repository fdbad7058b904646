// Activation checkpointing (arXiv 1604.06174): what a function computes on the way is dropped after the
// forward pass and computed again in the backward pass.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace cosub::model {

/// function(x), of which only x is kept for the backward pass. `function` is copied, runs a second time
/// during backward (in the same state of autocast), and must give the same result then; what it refers to
/// must live until then. Gradients of the parameters that it uses are accumulated into their .grad, so that
/// this works with backward(), not with autograd::grad. Where no gradient is wanted it is function(x).
at::Tensor recomputed_in_backward(const at::Tensor& x,
                                  const std::function<at::Tensor(const at::Tensor&)>& function);

}  // namespace cosub::model
