// Attention of one head on a CPU, forward and backward, out of a core's cache: products of a register tile at
// a time (arXiv 0810.0579 calls it GEBP), a block of queries after the other, so that a block's weights are
// never written to memory. In AVX-512 and in AVX2. The calling thread's alone; no LibTorch here.
#pragma once

#include <cstdint>
#include <span>

namespace cosub::model {

struct HeadShape {
  std::int64_t tokens = 0;
  std::int64_t width = 0;       // of the head, a multiple of the kernel's lanes
  std::int64_t stride = 0;      // floats from a token to the next, in q, k, v and their gradients
  std::int64_t out_stride = 0;  // in out and its gradient
  float scale = 1;              // of the scores
};

struct AttentionKernel {
  std::int64_t lanes = 0;  // floats of a vector
  /// How many floats of scratch the functions below want.
  std::int64_t (*scratch)(const HeadShape& shape) = nullptr;
  /// out = softmax(scale * q k^T) v
  void (*forward)(const HeadShape& shape, const float* q, const float* k, const float* v, float* out,
                  float* scratch) = nullptr;
  /// The gradients of q, k and v, which are overwritten.
  void (*backward)(const HeadShape& shape, const float* q, const float* k, const float* v, const float* d_out,
                   float* d_q, float* d_k, float* d_v, float* scratch) = nullptr;
};

/// Those that this processor runs, the fastest first.
std::span<const AttentionKernel* const> attention_kernels();

/// The fastest for heads of that width; nullptr: there is none.
const AttentionKernel* attention_kernel_for(std::int64_t width);

}  // namespace cosub::model
