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
    const at::ThreadLocalStateGuard as_in_forward(state);
    const at::AutoGradMode with_gradients(true);
    const at::Tensor x = input.unpack().detach().requires_grad_();
    const at::Tensor y = function(x);
    torch::autograd::backward({y}, {gradients.at(0)});
    return {x.grad()};
  }
  void release_variables() override {
    input.reset_data();
    function = nullptr;
  }

  torch::autograd::SavedVariable input;
  std::function<at::Tensor(const at::Tensor&)> function;
  at::ThreadLocalState state;
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

}  // namespace cosub::model
