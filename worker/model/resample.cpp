#include "worker/model/resample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace cosub::model {
namespace {

/// The side of a square with that many cells; 0 where there is none.
std::int64_t square_side(std::int64_t cells) {
  if (cells < 1) return 0;
  const std::int64_t side = std::llround(std::sqrt(static_cast<double>(cells)));
  return side * side == cells ? side : 0;
}

/// The factor between neighbouring distances with which `steps` of them, the first 1, reach `reach`.
double growth(std::int64_t steps, std::int64_t reach) {
  double low = 1.01, high = 1.5, factor = 0.0;
  while (high - low > 1e-6) {
    factor = (low + high) / 2.0;
    const double sum = (1.0 - std::pow(factor, static_cast<double>(steps))) / (1.0 - factor);
    (sum > static_cast<double>(reach) ? high : low) = factor;
  }
  return factor;
}

/// Where the entries of a source axis of 2 * steps + 1 stand in units of the target's: 0 in the middle.
std::vector<double> source_positions(std::int64_t steps, std::int64_t reach) {
  const double factor = growth(steps, reach);
  std::vector<double> positions = {0.0};
  double distance = 1.0, step = 1.0;
  for (std::int64_t i = 0; i < steps; ++i) {
    positions.push_back(distance);
    positions.insert(positions.begin(), -distance);
    step *= factor;
    distance += step;
  }
  return positions;
}

/// [2 * reach + 1, sources]: each target position as a mean of the two sources around it.
at::Tensor interpolation_matrix(const std::vector<double>& sources, std::int64_t reach) {
  at::Tensor matrix = at::zeros({2 * reach + 1, static_cast<std::int64_t>(sources.size())});
  auto weights = matrix.accessor<float, 2>();
  for (std::int64_t row = 0; row <= 2 * reach; ++row) {
    const double x = std::clamp(static_cast<double>(row - reach), sources.front(), sources.back());
    const auto above = std::lower_bound(sources.begin(), sources.end(), x);
    const auto right = static_cast<std::int64_t>(above - sources.begin());
    if (right == 0) {
      weights[row][0] = 1.0F;
      continue;
    }
    const double share = (x - *(above - 1)) / (*above - *(above - 1));
    weights[row][right] = static_cast<float>(share);
    weights[row][right - 1] = static_cast<float>(1.0 - share);
  }
  return matrix;
}

}  // namespace

at::Tensor resample_position_grid(const at::Tensor& grid, std::int64_t side) {
  const std::array<std::int64_t, 2> size = {side, side};
  return at::_upsample_bicubic2d_aa(grid.to(at::kFloat), size, /*align_corners=*/false)
      .to(grid.scalar_type());
}

at::Tensor resample_position_embedding(const at::Tensor& embedding, std::int64_t prefix_tokens,
                                       std::int64_t side) {
  if (embedding.dim() != 3 || embedding.size(0) != 1) return embedding;
  const std::int64_t old_side = square_side(embedding.size(1) - prefix_tokens), dim = embedding.size(2);
  if (old_side == 0 || old_side == side) return embedding;
  const at::Tensor grid = embedding.narrow(1, prefix_tokens, old_side * old_side)
                              .reshape({1, old_side, old_side, dim})
                              .permute({0, 3, 1, 2});
  const at::Tensor positions =
      resample_position_grid(grid, side).permute({0, 2, 3, 1}).reshape({1, side * side, dim});
  return at::cat({embedding.narrow(1, 0, prefix_tokens), positions}, 1);
}

at::Tensor resample_relative_positions(const at::Tensor& table, std::int64_t window_size) {
  if (table.dim() != 2) return table;
  const std::int64_t old_side = square_side(table.size(0)), side = 2 * window_size - 1, heads = table.size(1);
  if (old_side % 2 == 0 || old_side == side) return table;
  const at::Tensor weights =
      interpolation_matrix(source_positions(old_side / 2, window_size - 1), window_size - 1);
  const at::Tensor planes = table.to(at::kFloat).t().reshape({heads, old_side, old_side});
  const at::Tensor resampled = at::matmul(at::matmul(weights, planes), weights.t());
  return resampled.reshape({heads, side * side}).t().contiguous().to(table.scalar_type());
}

}  // namespace cosub::model
