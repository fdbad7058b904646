// Self-attention from the one projection that gives queries, keys and values (arXiv 1706.03762, equation 1).
// On a CPU in pieces that stay in a core's cache: a head of a row, and of a long row some of its queries at a
// time (where attention_kernel.h has no code for processor or dtype, a few heads by LibTorch's products). The
// matrix of tokens x tokens is never whole in memory: the backward pass computes it again (as in
// FlashAttention, arXiv 2205.14135), and operands are read where the projection wrote them, without copies
// but for bfloat16, which attention_kernel.h takes as float32.
#pragma once

#include <ATen/ATen.h>

namespace cosub::model {

/// softmax(q k^T / sqrt(D)) v. qkv [N, tokens, 3, heads, D] -> [N, tokens, heads * D]
at::Tensor self_attention(const at::Tensor& qkv);

/// The same where few tokens ask, as the class token alone in class attention (arXiv 2103.17239, section 3):
/// q [N, queries, dim], k and v [N, tokens, dim], each `num_heads` heads side by side -> [N, queries, dim].
at::Tensor attention_of_queries(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                std::int64_t num_heads);

}  // namespace cosub::model
