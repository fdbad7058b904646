// Attention within a row on a GPU, from the projection to queries, keys and values on, as one node of the
// backward pass: the result by LibTorch's fastest kernel, gradients by ours (kernels.h), which leaves them
// where the projection's product wants them, summed for its bias.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

/// Whether attention_by_kernels takes it: is_linear_for_kernels does, our kernels on its device have this
/// one, products are in bfloat16, tokens and the heads' width fit (attention_takes), there is a bias, and the
/// stage names no kernel.
bool attends_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        std::int64_t heads);

/// x [N, tokens, in], weight [3 * heads * width, in], bias [3 * heads * width] -> softmax(q k^T /
/// sqrt(width)) v of their queries, keys and values, [N, tokens, heads * width] bfloat16. A shape's first
/// call waits for the device, as fused_attention's. Differentiable once.
at::Tensor attention_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                std::int64_t heads);

}  // namespace cosub::model
