#include "worker/model/cpu_products.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include "worker/model/bf16_rounding.h"
#include "worker/model/linear_node.h"

namespace cosub::model {
namespace {

thread_local int whatever_the_cpu = 0;

at::Tensor rounded_copy(const at::Tensor& t) {
  const at::Tensor dense = t.is_non_overlapping_and_dense() ? t : t.contiguous();
  at::Tensor copy = at::empty_like(dense);
  round_to_bf16(dense.const_data_ptr<float>(), copy.mutable_data_ptr<float>(), dense.numel());
  return copy;
}

struct Rounding : public torch::autograd::Function<Rounding> {
  static at::Tensor forward(torch::autograd::AutogradContext* /*context*/, const at::Tensor& t) {
    return rounded_copy(t);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* /*context*/,
                                                 torch::autograd::variable_list gradients) {
    return {rounded_copy(gradients.at(0))};
  }
};

/// product(operands) of rounded operands, itself rounded, without autocast.
template <typename Product>
at::Tensor rounded_product(const Product& product) {
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  return rounded_to_bf16(product([](const at::Tensor& operand) {
    return operand.defined() ? rounded_to_bf16(operand.to(at::kFloat)) : operand;
  }));
}

}  // namespace

bool cpu_has_bf16_units() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16");
  return has;
#else
  return true;  // LibTorch's own choice
#endif
}

bool rounds_products(const at::Tensor& x) {
  return x.is_cpu() && (whatever_the_cpu > 0 || !cpu_has_bf16_units()) &&
         at::autocast::is_autocast_enabled(at::kCPU) &&
         at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
}

RoundingWhateverTheCpu::RoundingWhateverTheCpu() {
  ++whatever_the_cpu;
}
RoundingWhateverTheCpu::~RoundingWhateverTheCpu() {
  --whatever_the_cpu;
}

at::Tensor rounded_to_bf16(const at::Tensor& t) {
  return Rounding::apply(t);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (is_linear_for_kernels(x, weight, bias) || is_linear_on_cpu(x, weight, bias))
    return linear_by_node(x, weight, bias);
  if (!rounds_products(x)) return at::linear(x, weight, bias);
  return rounded_product(
      [&](const auto& rounded) { return at::linear(rounded(x), rounded(weight), rounded(bias)); });
}

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding,
                  std::int64_t groups) {
  const std::array<std::int64_t, 2> dilation = {1, 1};
  if (!rounds_products(x)) return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
  return rounded_product([&](const auto& rounded) {
    return at::conv2d(rounded(x), rounded(weight), rounded(bias), stride, padding, dilation, groups);
  });
}

}  // namespace cosub::model
