// The first half of a transformer's MLP, gelu(x W^T + b), with bias and GELU in one pass over memory, forward
// and backward: on a CPU in float32; on a GPU with our kernels in float32 or, under autocast to it, in
// bfloat16.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

/// x [..., in], weight [out, in], bias [out] -> gelu(x W^T + b) [..., out]
at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace cosub::model
