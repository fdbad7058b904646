// Attention of one head in AVX-512, forward and backward, out of a core's cache: products of a register tile
// at a time (arXiv 0810.0579 calls it GEBP), a block of queries after the other, so that a block's weights
// are never written to memory. The calling thread's alone; no LibTorch here.
#pragma once

#include <cstdint>

namespace cosub::model {

struct HeadShape {
  std::int64_t tokens = 0;
  std::int64_t width = 0;       // of the head
  std::int64_t stride = 0;      // floats from a token to the next, in q, k, v and their gradients
  std::int64_t out_stride = 0;  // in out and its gradient
  float scale = 1;              // of the scores
};

/// Whether this processor runs it, for heads of that width.
bool has_attention_kernel(std::int64_t width);

/// How many floats of scratch the functions below want.
std::int64_t attention_scratch(const HeadShape& shape);

/// out = softmax(scale * q k^T) v
void attend_head(const HeadShape& shape, const float* q, const float* k, const float* v, float* out,
                 float* scratch);

/// The gradients of q, k and v, which are overwritten.
void attend_head_backward(const HeadShape& shape, const float* q, const float* k, const float* v,
                          const float* d_out, float* d_q, float* d_k, float* d_v, float* scratch);

}  // namespace cosub::model
