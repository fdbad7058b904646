// BatchNorm over a matrix [rows, channels] of floats (a channels_last image batch), with sums that stay
// accurate at any number of rows: short runs in float, folded into double. (ATen's channels_last kernel adds
// up in float, which shows in the fifth digit of gradients.) No LibTorch here.
#pragma once

#include <cstdint>

namespace cosub::model {

struct RowMatrix {
  std::int64_t rows = 0, channels = 0;
};

/// mean[c] and the biased variance var[c] of x.
void column_moments(const RowMatrix& shape, const float* x, float* mean, float* var);

/// y = (x - mean) * scale + shift
void normalize_rows(const RowMatrix& shape, const float* x, const float* mean, const float* scale,
                    const float* shift, float* y);

/// sum_dy[c] = sum dy, sum_dy_x[c] = sum dy * (x - mean)
void gradient_sums(const RowMatrix& shape, const float* dy, const float* x, const float* mean, float* sum_dy,
                   float* sum_dy_x);

/// dx = dy * scale - offset - (x - mean) * slope
void input_gradient(const RowMatrix& shape, const float* dy, const float* x, const float* mean,
                    const float* scale, const float* offset, const float* slope, float* dx);

}  // namespace cosub::model
