// Attention within windows, as Swin's blocks use it.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

/// softmax(q k^T / sqrt(D) + bias) v. qkv: [3, N, windows, heads, A, D]; bias: [1, heads, A, A], the same for
/// all windows, or [windows, heads, A, A]; returns [N, windows, heads, A, D]. `folds`: by four dimensions,
/// which a GPU's fused kernels want: windows go to the heads where each has a bias of its own, else to the
/// rows, which moves nothing in memory. (A CPU's fused kernel would be taken only where no gradients are
/// wanted, and a branch that is computed again would get other bits: for a CPU, false.)
at::Tensor window_attention(const at::Tensor& qkv, const at::Tensor& bias, bool folds);

}  // namespace cosub::model
