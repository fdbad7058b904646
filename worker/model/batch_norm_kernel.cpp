#include "worker/model/batch_norm_kernel.h"

#include <algorithm>
#include <vector>

namespace cosub::model {
namespace {

constexpr std::int64_t kChunkRows = 1024;  // one task; its sums are double
constexpr std::int64_t kRunRows = 16;      // added up in float

std::int64_t num_chunks(const RowMatrix& shape) {
  return (shape.rows + kChunkRows - 1) / kChunkRows;
}

template <typename Body>
void for_each_chunk(const RowMatrix& shape, const Body& body) {
  const std::int64_t chunks = num_chunks(shape);
#pragma omp parallel for num_threads(shape.threads) if (shape.threads > 1 && chunks > 1)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    body(chunk, chunk * kChunkRows, std::min(shape.rows, (chunk + 1) * kChunkRows));
  }
}

/// Column sums of what add_row(row, run) adds to run[0, width): chunk by chunk, then the chunks in order.
template <typename AddRow>
std::vector<double> column_sums(const RowMatrix& shape, std::int64_t width, const AddRow& add_row) {
  const auto size = static_cast<std::size_t>(width);
  std::vector<double> partial(static_cast<std::size_t>(num_chunks(shape)) * size, 0.0);
  for_each_chunk(shape, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    double* __restrict sums = partial.data() + chunk * width;
    std::vector<float> run_storage(size);
    float* __restrict run = run_storage.data();
    for (std::int64_t first = begin; first < end; first += kRunRows) {
      std::fill_n(run, width, 0.0F);
      for (std::int64_t row = first; row < std::min(end, first + kRunRows); ++row) add_row(row, run);
      for (std::int64_t c = 0; c < width; ++c) sums[c] += static_cast<double>(run[c]);
    }
  });
  std::vector<double> total(size, 0.0);
  for (std::size_t i = 0; i < partial.size(); ++i) total[i % size] += partial[i];
  return total;
}

}  // namespace

void column_moments(const RowMatrix& shape, const float* x, float* mean, float* var) {
  const std::int64_t channels = shape.channels;
  const auto count = static_cast<double>(shape.rows);
  const std::vector<double> sums = column_sums(shape, channels, [&](std::int64_t row, float* __restrict run) {
    const float* __restrict values = x + row * channels;
    for (std::int64_t c = 0; c < channels; ++c) run[c] += values[c];
  });
  for (std::int64_t c = 0; c < channels; ++c)
    mean[c] = static_cast<float>(sums[static_cast<std::size_t>(c)] / count);
  const std::vector<double> squares =
      column_sums(shape, channels, [&](std::int64_t row, float* __restrict run) {
        const float* __restrict values = x + row * channels;
        for (std::int64_t c = 0; c < channels; ++c) run[c] += (values[c] - mean[c]) * (values[c] - mean[c]);
      });
  for (std::int64_t c = 0; c < channels; ++c)
    var[c] = static_cast<float>(squares[static_cast<std::size_t>(c)] / count);
}

void normalize_rows(const RowMatrix& shape, const float* x, const float* mean, const float* scale,
                    const float* shift, float* y) {
  const std::int64_t channels = shape.channels;
  for_each_chunk(shape, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
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
      column_sums(shape, 2 * channels, [&](std::int64_t row, float* __restrict run) {
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
  for_each_chunk(shape, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
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
