#include "worker/train/sum_of_squares.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "common/vector_clones.h"

namespace cosub::train {
namespace {

constexpr std::int64_t kPiece = 1 << 16;
constexpr std::int64_t kLanes = 32;  // sums side by side, which a compiler need not reorder to use vectors

COSUB_VECTOR_CLONES double sum_piece(const float* values, std::int64_t size) {
  std::array<double, kLanes> lanes{};
  const std::int64_t whole = size - size % kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(values[i + lane]);
      lanes[static_cast<std::size_t>(lane)] += value * value;
    }
  }
  for (std::int64_t i = whole; i < size; ++i) {
    const auto value = static_cast<double>(values[i]);
    lanes[static_cast<std::size_t>(i - whole)] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double sum_of_squares(const float* values, std::int64_t size) {
  const std::int64_t pieces = (size + kPiece - 1) / kPiece;
  std::vector<double> sums(static_cast<std::size_t>(pieces));
#pragma omp parallel for if (pieces > 1)
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    const std::int64_t begin = piece * kPiece;
    sums[static_cast<std::size_t>(piece)] = sum_piece(values + begin, std::min(kPiece, size - begin));
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace cosub::train
