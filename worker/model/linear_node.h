// Linear maps as nodes of the backward pass of our own, whose gradients of weights are written where they
// are wanted (gradient_in_place.h). On a GPU in float32 or, under autocast to it, in bfloat16: there those
// leave the product in float32, which saves rounding them and a pass over them, and gradients of biases are
// summed by our kernels (kernels.h), which read memory at its full speed.
#pragma once

#include <ATen/ATen.h>

#include <array>

namespace cosub::model {

/// Whether what follows takes them: our kernels run on their device, and they are float32 (x and the bias
/// also bfloat16), contiguous.
bool is_linear_for_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// The same on a CPU in float32, without autocast.
bool is_linear_on_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// x [..., in], weight [out, in], bias [out] or undefined -> [..., out] in the products' dtype. What one of
/// the two above takes. Differentiable once.
at::Tensor linear_by_node(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// x [N, tokens, in], weight [3 * heads * width, in], bias [3 * heads * width] -> queries, keys and values,
/// [N, heads, tokens, width] each, where one product wrote them. Their gradients are put side by side, and
/// summed for the bias, in one pass.
std::array<at::Tensor, 3> project_by_kernels(const at::Tensor& x, const at::Tensor& weight,
                                             const at::Tensor& bias, std::int64_t heads);

/// a b of matrices of any one dtype, the sums as they are: float32.
at::Tensor product_in_float(const at::Tensor& a, const at::Tensor& b);

/// The sums over the lines of x [lines, channels], float32, contiguous or bfloat16: [channels] float32. By
/// our kernel where there is one.
at::Tensor column_sums(const at::Tensor& x);

}  // namespace cosub::model
