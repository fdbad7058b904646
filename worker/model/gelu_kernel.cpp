#include "worker/model/gelu_kernel.h"

#include <bit>

#include "common/vector_clones.h"
#include "worker/model/exp_of_negative.h"
#include "worker/model/row_chunks.h"

namespace cosub::model {
namespace {

constexpr std::int64_t kChunkRows = 64;

struct Normal {
  float density_part;  // e^(-x^2 / 2)
  float cumulative;    // Phi(x)
};

inline Normal normal_at(float x) {
  const float exponential = exp_of_negative(-0.5F * x * x);
  const float z = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFU) * 0.707106781F;
  const float t = 1.0F / (1.0F + 0.3275911F * z);
  float sum = 1.061405429F;
  sum = sum * t - 1.453152027F;
  sum = sum * t + 1.421413741F;
  sum = sum * t - 0.284496736F;
  sum = sum * t + 0.254829592F;
  const float tail = 0.5F * sum * t * exponential;
  return {exponential, x < 0 ? tail : 1.0F - tail};
}

COSUB_VECTOR_CLONES void gelu_row(float* __restrict x, const float* __restrict bias, std::int64_t width,
                                  float* __restrict y) {
  for (std::int64_t c = 0; c < width; ++c) {
    const float value = x[c] + bias[c];
    x[c] = value;
    y[c] = value * normal_at(value).cumulative;
  }
}

COSUB_VECTOR_CLONES void gelu_backward_row(const float* __restrict x, std::int64_t width,
                                           float* __restrict dy, float* __restrict y,
                                           float* __restrict sums) {
  for (std::int64_t c = 0; c < width; ++c) {
    const Normal normal = normal_at(x[c]);
    const float slope = normal.cumulative + x[c] * normal.density_part * 0.398942280F;
    dy[c] *= slope;
    y[c] = x[c] * normal.cumulative;
    sums[c] += dy[c];
  }
}

}  // namespace

void bias_gelu(float* x, const float* bias, std::int64_t rows, std::int64_t width, float* y) {
  for_each_row_chunk(rows, kChunkRows, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) gelu_row(x + row * width, bias, width, y + row * width);
  });
}

void bias_gelu_backward(const float* x, float* dy, std::int64_t rows, std::int64_t width, float* d_bias,
                        float* y) {
  const std::vector<double> sums = column_sums(rows, kChunkRows, width, [&](std::int64_t row, float* run) {
    gelu_backward_row(x + row * width, width, dy + row * width, y + row * width, run);
  });
  for (std::int64_t c = 0; c < width; ++c) d_bias[c] = static_cast<float>(sums[static_cast<std::size_t>(c)]);
}

}  // namespace cosub::model
