#include "worker/model/gradient_in_place.h"

#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/graph_task.h>

#include <mutex>
#include <unordered_map>

#include "worker/model/linear_node.h"

namespace cosub::model {
namespace {

using torch::autograd::AccumulateGrad;

/// Of the process: how often a parameter whose gradient is zero is used. Backward passes have threads of
/// their own.
class ZeroGradients {
 public:
  void reset(const std::vector<at::Tensor>& parameters) {
    const std::lock_guard lock(mutex_);
    uses_.clear();
    for (const at::Tensor& parameter : parameters) uses_[parameter.unsafeGetTensorImpl()] = 0;
  }
  void count(const at::Tensor& parameter) {
    const std::lock_guard lock(mutex_);
    if (const auto known = uses_.find(parameter.unsafeGetTensorImpl()); known != uses_.end()) ++known->second;
  }
  /// Whether nothing was added yet, nor will be by others; true once.
  bool take(const at::Tensor& parameter) {
    const std::lock_guard lock(mutex_);
    const auto known = uses_.find(parameter.unsafeGetTensorImpl());
    if (known == uses_.end() || known->second != 1) return false;
    uses_.erase(known);
    return true;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<const c10::TensorImpl*, int> uses_;
};

ZeroGradients& zero_gradients() {
  static ZeroGradients gradients;
  return gradients;
}

bool adds_to_parameters() {
  const auto* const wanted = torch::autograd::get_current_graph_task_exec_info();
  return wanted == nullptr || wanted->empty();
}

bool fits(const at::Tensor& gradient, const at::Tensor& a, const at::Tensor& b) {
  return gradient.defined() && gradient.scalar_type() == at::kFloat && gradient.is_contiguous() &&
         gradient.dim() == 2 && gradient.size(0) == a.size(0) && gradient.size(1) == b.size(1) &&
         gradient.device() == a.device();
}

void write_product(at::Tensor& to, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat)
    at::mm_out(to, a, b);
  else if (a.is_cuda())
    at::mm_out(to, a, b, at::kFloat);
  else
    to.copy_(at::mm(a, b));
}

}  // namespace

void gradients_are_zero(const std::vector<at::Tensor>& parameters) {
  zero_gradients().reset(parameters);
}

void count_use(const at::Tensor& parameter) {
  zero_gradients().count(parameter);
}

at::Tensor gradient_by_product(const torch::autograd::Edge& parameter, const at::Tensor& a,
                               const at::Tensor& b) {
  auto* const adds = dynamic_cast<AccumulateGrad*>(parameter.function.get());
  if (adds == nullptr || !adds_to_parameters() || !fits(adds->variable.grad(), a, b) ||
      !adds->tensor_pre_hooks().empty() || !adds->pre_hooks().empty() || !adds->post_hooks().empty() ||
      !zero_gradients().take(adds->variable))
    return product_in_float(a, b);
  write_product(adds->variable.mutable_grad(), a, b);
  return {};
}

}  // namespace cosub::model
