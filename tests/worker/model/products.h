// What the tests of products share: autocast as training sets it, and a function's output and gradients.
#pragma once

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <functional>
#include <vector>

#include "tests/support/distance.h"

namespace cosub::testing {

using Product = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// Autocast to bfloat16 on CPU, as worker/train/precision.h sets it.
class Autocast {
 public:
  Autocast() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    at::autocast::decrement_nesting();
    at::autocast::set_autocast_cache_enabled(true);
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
};

struct Result {
  at::Tensor output;
  std::vector<at::Tensor> gradients;
};

/// product(inputs), and the gradients of its inner product with fixed numbers.
inline Result run(const Product& product, const std::vector<at::Tensor>& values, bool autocast = false) {
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& value : values) inputs.push_back(value.detach().clone().requires_grad_());
  at::Tensor output;
  if (autocast) {
    const Autocast scope;
    output = product(inputs);
  } else {
    output = product(inputs);
  }
  const at::ScalarType exact = output.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor weights = at::arange(output.numel(), exact).cos().view(output.sizes());
  (output.to(exact) * weights).sum().backward();
  Result result{output.detach().to(exact), {}};
  for (const at::Tensor& input : inputs) result.gradients.push_back(input.grad());
  return result;
}

}  // namespace cosub::testing
