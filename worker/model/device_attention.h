// Attention within a row on a GPU, from the projection to queries, keys and values on, as one node of the
// backward pass: gradients by our kernel (kernels.h), which leaves them where the projection's product wants
// them, summed for its bias; the result by ours or by LibTorch's fastest. What is the way to go, LibTorch's
// kernels throughout included, is found out on the device, shape by shape.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "worker/kernels/kernels.h"

namespace cosub::model {

enum class AttentionBy {
  kLibTorch,      // all of it
  kOurGradients,  // the result by LibTorch's fastest kernel
  kOurs
};

/// A way to compute attention and its gradients, as tried on noise.
struct AttentionTrial {
  AttentionBy by = AttentionBy::kLibTorch;
  double seconds = 0;
  /// From LibTorch's, relative to these: the farthest token's result or gradient, or the farthest sums.
  double distance = 0;
  bool repeats = false;  // the same, bit for bit, when made again

  /// All are in bfloat16, whose roundings make a distance of about 0.01.
  bool is_right() const { return repeats && distance < 0.05; }
};
/// LibTorch's, then those of ours that take the sizes. On the device of `like`, which is waited for.
std::vector<AttentionTrial> try_attention(const kernels::AttentionSizes& sizes, const at::Tensor& like);

/// The fastest right one, or LibTorch's, the first; a later one must be faster than an earlier by a
/// twentieth, so that noise does not decide, and runs on like cards agree.
AttentionBy best_of(const std::vector<AttentionTrial>& trials);

/// How attention_by_kernels is to compute it. kLibTorch, then not at all: unless is_linear_for_kernels takes
/// it, our kernels on its device have those for attention, products are in bfloat16, tokens and the heads'
/// width fit (attention_backward_takes), there is a bias, and the stage names no kernel. On a GPU the first
/// call with such rows tries (a second or two, so it must come before a capture). In inference
/// mode nothing is tried: what is known, or kOurGradients.
AttentionBy attention_by(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         std::int64_t heads);

/// x [N, tokens, in], weight [3 * heads * width, in], bias [3 * heads * width] -> softmax(q k^T /
/// sqrt(width)) v of their queries, keys and values, [N, tokens, heads * width] bfloat16. A shape's first
/// call waits for the device, as fused_attention's. Differentiable once.
at::Tensor attention_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                std::int64_t heads, AttentionBy by);

}  // namespace cosub::model
