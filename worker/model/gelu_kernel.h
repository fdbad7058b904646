// GELU (arXiv 1606.08415, the exact form x Phi(x)) of a float matrix [rows, width] with a bias per column,
// each pass over memory done once. Phi by Abramowitz and Stegun 7.1.26, as LibTorch's vector code has it:
// error below 7.5e-8. Over OpenMP's threads, with the same bits for any number of them. No LibTorch here.
#pragma once

#include <cstdint>

namespace cosub::model {

/// x += bias; y = gelu(x)
void bias_gelu(float* x, const float* bias, std::int64_t rows, std::int64_t width, float* y);

/// dy *= gelu'(x), where x has its bias; d_bias = the columns' sums of that; y = gelu(x), once more.
void bias_gelu_backward(const float* x, float* dy, std::int64_t rows, std::int64_t width, float* d_bias,
                        float* y);

}  // namespace cosub::model
