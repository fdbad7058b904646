// Activation checkpointing (arXiv 1604.06174): what a function computes on the way is dropped after the
// forward pass and computed again in the backward pass.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>

#include <functional>
#include <memory>

namespace cosub::model {

/// function(x), of which only x is kept for the backward pass. `function` is copied, runs a second time
/// during backward (in the same state of autocast), and must give the same result then; what it refers to
/// must live until then. Gradients of the parameters that it uses are accumulated into their .grad, so that
/// this works with backward(), not with autograd::grad. Where no gradient is wanted it is function(x).
at::Tensor recomputed_in_backward(const at::Tensor& x,
                                  const std::function<at::Tensor(const at::Tensor&)>& function);

/// A tensor that another node's backward pass needs. Nothing of it is kept where it comes from
/// recomputed_in_backward: what that computes again serves both. The forward pass's values, so nobody may
/// change them in place.
class SavedOutput {
 public:
  explicit SavedOutput(const at::Tensor& output);
  /// During backward, on the thread that runs it.
  at::Tensor unpack() const;

 private:
  std::shared_ptr<torch::autograd::Node> source_;  // null: `kept_`
  at::Tensor kept_;
};

}  // namespace cosub::model
