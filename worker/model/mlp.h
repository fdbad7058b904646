// The transformers' MLP, fc2(gelu(fc1(x))), as one node of the backward pass: bias and GELU cost one pass
// over memory, forward and backward, and of the two hidden tensors only the one before GELU is kept; the
// other is made anew beside GELU's gradient. So on a CPU in float32, and on a GPU with our kernels in float32
// or, under autocast to it, in bfloat16; elsewhere LibTorch's operators. In bfloat16 on Hopper GELU comes in
// the products' own last pass where that was built (COSUB_WITH_CUTLASS), and GELU's result and slope are both
// kept.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

struct LinearMap {
  at::Tensor weight, bias;  // [out, in], [out]
};

/// x [..., in], fc1 [hidden, in], fc2 [out, hidden] -> [..., out]. Differentiable once (backward(), not
/// double backward).
at::Tensor mlp(const at::Tensor& x, const LinearMap& fc1, const LinearMap& fc2);

}  // namespace cosub::model
