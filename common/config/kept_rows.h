// How many rows of a microbatch a branch keeps under stochastic depth of a fixed count, and how far that may
// lie from model.drop_rate: asked where a pipeline is checked, before the weeks that lead to the stage, and
// by the model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace cosub::config {

/// At least 1 of `images`, which is at least 1.
inline std::int64_t kept_count(double drop_rate, std::int64_t images) {
  const auto wanted =
      static_cast<std::int64_t>(std::floor((1.0 - drop_rate) * static_cast<double>(images) + 0.5));
  return std::clamp<std::int64_t>(wanted, 1, images);
}

/// The drop rate that comes out of it.
inline double rounded_drop_rate(double drop_rate, std::int64_t images) {
  return 1.0 - static_cast<double>(kept_count(drop_rate, images)) / static_cast<double>(images);
}

/// Whether that is too far from what was asked for.
inline bool is_rounded_too_far(double drop_rate, double rounded) {
  constexpr double kLargestRounding = 0.02;
  return std::abs(rounded - drop_rate) > kLargestRounding + 1e-12;
}

}  // namespace cosub::config
