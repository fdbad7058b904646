// Attention within a row on a GPU, from the projection to queries, keys and values on, as one node of the
// backward pass: the result by LibTorch's fastest kernel, gradients by ours (kernels.h), which leaves them
// where the projection's product wants them, summed for its bias. Whether that is the way to go is found out
// on the device, shape by shape.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

/// [N, tokens, heads, width] each
struct AttentionSizes {
  std::int64_t rows = 0, tokens = 0, heads = 1, width = 1;
};

/// Our kernel beside LibTorch's attention_with_sums, fused_attention and their gradients, on noise.
struct AttentionTrial {
  double our_seconds = 0, their_seconds = 0;  // of the result and the gradients, side by side
  double distance =
      0;  // of our gradients from theirs, relative to these; the farthest token's, and the sums'
  bool repeats = false;  // our gradients are the same, bit for bit, when made again

  /// Both are in bfloat16, whose roundings make a distance of about 0.01.
  bool is_right() const { return repeats && distance < 0.05; }
  /// Clearly, so that noise does not decide, and runs on like cards agree.
  bool ours_is_faster() const { return our_seconds < 0.95 * their_seconds; }
};
/// On the device of `like`, which is waited for. Sizes that attention_takes.
AttentionTrial try_attention(const AttentionSizes& sizes, const at::Tensor& like);

/// Whether attention_by_kernels takes it: is_linear_for_kernels does, our kernels on its device have this
/// one, products are in bfloat16, tokens and the heads' width fit (attention_takes), there is a bias, the
/// stage names no kernel, and ours are right and faster in a trial at the first call with such rows on a GPU
/// (a second or two, so it must come before a capture). In inference mode without a trial.
bool attends_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        std::int64_t heads);

/// x [N, tokens, in], weight [3 * heads * width, in], bias [3 * heads * width] -> softmax(q k^T /
/// sqrt(width)) v of their queries, keys and values, [N, tokens, heads * width] bfloat16. A shape's first
/// call waits for the device, as fused_attention's. Differentiable once.
at::Tensor attention_by_kernels(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                std::int64_t heads);

}  // namespace cosub::model
