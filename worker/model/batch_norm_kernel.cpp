#include "worker/model/batch_norm_kernel.h"

#include <vector>

#include "worker/model/row_chunks.h"

namespace cosub::model {
namespace {

constexpr std::int64_t kChunkRows = 1024;  // one task; its sums are double
}  // namespace

void column_moments(const RowMatrix& shape, const float* x, float* mean, float* var) {
  const std::int64_t channels = shape.channels;
  const auto count = static_cast<double>(shape.rows);
  const std::vector<double> sums =
      column_sums(shape.rows, kChunkRows, channels, [&](std::int64_t row, float* __restrict run) {
        const float* __restrict values = x + row * channels;
        for (std::int64_t c = 0; c < channels; ++c) run[c] += values[c];
      });
  for (std::int64_t c = 0; c < channels; ++c)
    mean[c] = static_cast<float>(sums[static_cast<std::size_t>(c)] / count);
  const std::vector<double> squares =
      column_sums(shape.rows, kChunkRows, channels, [&](std::int64_t row, float* __restrict run) {
        const float* __restrict values = x + row * channels;
        for (std::int64_t c = 0; c < channels; ++c) run[c] += (values[c] - mean[c]) * (values[c] - mean[c]);
      });
  for (std::int64_t c = 0; c < channels; ++c)
    var[c] = static_cast<float>(squares[static_cast<std::size_t>(c)] / count);
}

void normalize_rows(const RowMatrix& shape, const float* x, const float* mean, const float* scale,
                    const float* shift, float* y) {
  const std::int64_t channels = shape.channels;
  for_each_row_chunk(shape.rows, kChunkRows, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* __restrict in = x + row * channels;
      float* __restrict out = y + row * channels;
      for (std::int64_t c = 0; c < channels; ++c) out[c] = (in[c] - mean[c]) * scale[c] + shift[c];
    }
  });
}

void gradient_sums(const RowMatrix& shape, const float* dy, const float* x, const float* mean, float* sum_dy,
                   float* sum_dy_x) {
  const std::int64_t channels = shape.channels;
  const std::vector<double> sums =
      column_sums(shape.rows, kChunkRows, 2 * channels, [&](std::int64_t row, float* __restrict run) {
        const float* __restrict gradient = dy + row * channels;
        const float* __restrict values = x + row * channels;
        float* __restrict products = run + channels;
        for (std::int64_t c = 0; c < channels; ++c) run[c] += gradient[c];
        for (std::int64_t c = 0; c < channels; ++c) products[c] += gradient[c] * (values[c] - mean[c]);
      });
  for (std::int64_t c = 0; c < channels; ++c) {
    sum_dy[c] = static_cast<float>(sums[static_cast<std::size_t>(c)]);
    sum_dy_x[c] = static_cast<float>(sums[static_cast<std::size_t>(c + channels)]);
  }
}

void input_gradient(const RowMatrix& shape, const float* dy, const float* x, const float* mean,
                    const float* scale, const float* offset, const float* slope, float* dx) {
  const std::int64_t channels = shape.channels;
  for_each_row_chunk(shape.rows, kChunkRows, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* __restrict gradient = dy + row * channels;
      const float* __restrict values = x + row * channels;
      float* __restrict out = dx + row * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        out[c] = gradient[c] * scale[c] - offset[c] - (values[c] - mean[c]) * slope[c];
      }
    }
  });
}

}  // namespace cosub::model
