#include "worker/model/device_attention.h"

#include <cmath>
#include <utility>

#include "worker/model/device_linear.h"
#include "worker/model/fused_attention.h"
#include "worker/model/kernel_calls.h"
#include "worker/model/linear_backward.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

struct AttentionNode : public LinearBackward {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    if (!gradients.at(0).defined()) return variable_list(3);
    const at::Tensor of = qkv.unpack(), result = out.unpack(shared_from_this()),
                     d_out = aligned_to_16(std::exchange(gradients[0], {}).contiguous()),
                     d_qkv = at::empty_like(of);
    kernels::AttentionBackward a;
    a.rows = of.size(0);
    a.tokens = of.size(1);
    a.heads = of.size(3);
    a.width = of.size(4);
    const std::int64_t columns = 3 * a.heads * a.width;
    const at::Tensor sums = floats_like(of, {columns}), scratch = floats_like(of, {a.rows, columns});
    a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.width)));
    a.qkv = of.const_data_ptr();
    a.out = result.const_data_ptr();
    a.d_out = d_out.const_data_ptr();
    a.log_sums = const_float_address(log_sums);
    a.d_qkv = d_qkv.mutable_data_ptr();
    a.sums = float_address(sums);
    a.scratch = float_address(scratch);
    kernels_for(of)->attention_backward(a, StreamOf(of));
    return gradients_of(d_qkv.view({-1, columns}), sums);
  }
  void release_variables() override {
    LinearBackward::release_variables();
    qkv.reset_data();
    out.reset_data();
    log_sums.reset();
  }

  SavedVariable qkv, out;
  at::Tensor log_sums;
};

}  // namespace

bool attends_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        std::int64_t heads) {
  return bias.defined() && is_linear_for_kernels(x, weight, bias) && product_dtype(x) == at::kBFloat16 &&
         kernels_for(x)->attention_backward != nullptr && attention_backend_is_free() &&
         kernels::attention_takes(x.size(1), weight.size(0) / 3 / heads);
}

at::Tensor attention_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                std::int64_t heads) {
  Operands operands;
  at::Tensor qkv, y, log_sums;
  {
    const at::NoGradGuard no_grad;
    operands = operands_of(x, weight, bias);
    qkv = product_of(operands).view({x.size(0), x.size(1), 3, heads, weight.size(0) / 3 / heads});
    const at::Tensor parts = qkv.permute({2, 0, 3, 1, 4});
    const AttentionWithSums found = attention_with_sums(parts[0], parts[1], parts[2]);
    y = found.out.transpose(1, 2).contiguous().flatten(2);
    log_sums = found.log_sums;
  }
  if (!differentiates(x, weight, bias)) return y;
  const auto node = node_for<AttentionNode>(x, weight, bias, operands);
  torch::autograd::set_history(y, node);
  node->qkv = SavedVariable(qkv, /*is_output=*/false);
  node->out = SavedVariable(y, /*is_output=*/true);
  node->log_sums = std::move(log_sums);
  return y;
}

}  // namespace cosub::model
