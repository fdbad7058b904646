// Attention by LibTorch's fused kernels. On a GPU several compute most shapes: FlashAttention-2 (arXiv
// 2307.08691), cuDNN's, and the memory-efficient one (arXiv 2112.05682). Which is the fastest depends on the
// card, the shape and the versions, and LibTorch goes by a fixed order; here each shape is timed once, when
// it is first met (attention_tuner.h). On a CPU LibTorch chooses.
#pragma once

#include <ATen/ATen.h>

#include "common/config/pipeline.h"

namespace cosub::model {

/// softmax(q k^T / sqrt(D) + bias) v. q [N, heads, L, D], k and v [N, heads, S, D], bias undefined or
/// broadcastable to [N, heads, L, S] -> [N, heads, L, D]. On a GPU a shape's first call waits for the device
/// (some hundred milliseconds), so it must come before a capture. Differentiable; any thread.
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& bias = {});

struct AttentionWithSums {
  at::Tensor out;       // as of fused_attention
  at::Tensor log_sums;  // [N, heads, L] float32, contiguous: ln of each query's sum of exp(q k^T / sqrt(D))
};

/// The same without bias, of bfloat16. Not differentiable: the sums are for a backward pass of one's own. On
/// a GPU by the faster of FlashAttention-2's and cuDNN's kernels, timed at a shape's first call, which waits
/// as above.
AttentionWithSums attention_with_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// Whether the stage leaves it to us which kernel computes attention.
bool attention_backend_is_free();

/// For the whole process, before the first step: the kernel to take wherever it can compute the shape,
/// instead of timing; LibTorch's order decides where it cannot. `rows_vary`: calls differ in N from step to
/// step, for each of which cuDNN would first build a plan (tens of milliseconds): kAuto leaves it out.
void set_attention_backend(config::AttentionBackend backend, bool rows_vary);

}  // namespace cosub::model
