#include "worker/model/recompute.h"

#include <ATen/ThreadLocalState.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

namespace cosub::model {
namespace {

using torch::autograd::variable_list;

struct Recompute : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::Tensor y = output(), x = std::move(again_x);
    again_y.reset();
    const at::ThreadLocalStateGuard as_in_forward(state);
    const at::AutoGradMode with_gradients(true);
    torch::autograd::backward({y}, {gradients.at(0)});
    return {x.grad()};
  }
  void release_variables() override {
    input.reset_data();
    function = nullptr;
    again_x.reset();
    again_y.reset();
  }

  /// With its graph, which apply() goes through.
  at::Tensor output() {
    if (again_y.defined()) return again_y;
    const at::ThreadLocalStateGuard as_in_forward(state);
    const at::AutoGradMode with_gradients(true);
    again_x = input.unpack().detach().requires_grad_();
    again_y = function(again_x);
    return again_y;
  }

  torch::autograd::SavedVariable input;
  std::function<at::Tensor(const at::Tensor&)> function;
  at::ThreadLocalState state;
  at::Tensor again_x, again_y;  // from output() to apply()
};

}  // namespace

at::Tensor recomputed_in_backward(const at::Tensor& x,
                                  const std::function<at::Tensor(const at::Tensor&)>& function) {
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return function(x);
  const auto node = std::shared_ptr<Recompute>(new Recompute(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(x));
  node->input = torch::autograd::SavedVariable(x, /*is_output=*/false);
  node->function = function;
  at::Tensor y = [&] {
    const at::NoGradGuard no_grad;
    return function(x);
  }();
  torch::autograd::set_history(y, node);
  return y;
}

SavedOutput::SavedOutput(const at::Tensor& output) {
  if (std::dynamic_pointer_cast<Recompute>(output.grad_fn())) {
    source_ = output.grad_fn();
  } else {
    kept_ = output.detach();
  }
}

at::Tensor SavedOutput::unpack() const {
  return source_ ? static_cast<Recompute&>(*source_).output().detach() : kept_;
}

}  // namespace cosub::model
