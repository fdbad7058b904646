// The first half of a transformer's MLP, gelu(x W^T + b): on a CPU in float32 with bias and GELU in one pass
// over memory, forward and backward.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

/// x [..., in], weight [out, in], bias [out] -> gelu(x W^T + b) [..., out]
at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace cosub::model
