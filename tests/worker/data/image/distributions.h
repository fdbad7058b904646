// Whether drawn numbers are distributed as they should be. Keys are fixed, so a test passes always or never;
// a right implementation would fail with about one key in 20,000.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace cosub::testing {

/// Kolmogorov and Smirnov's test against a continuous distribution function.
inline ::testing::AssertionResult is_distributed(std::vector<double> values,
                                                 const std::function<double(double)>& share_below) {
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  double largest = 0, where = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double expected = share_below(values[i]), rank = static_cast<double>(i);
    const double distance =
        std::max(std::abs(expected - rank / count), std::abs(expected - (rank + 1) / count));
    if (distance > largest) {
      largest = distance;
      where = values[i];
    }
  }
  constexpr double kLimit = 2.3;
  if (values.size() > 100 && largest * std::sqrt(count) < kLimit) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "of " << count << " values the share below " << where << " is off by " << largest;
}

inline ::testing::AssertionResult is_uniform(const std::vector<double>& values, double low, double high) {
  return is_distributed(values, [=](double x) { return std::clamp((x - low) / (high - low), 0.0, 1.0); });
}

/// `hits` of `tries` at this probability, within 4.1 standard deviations.
inline ::testing::AssertionResult comes_up(std::size_t hits, std::size_t tries, double probability) {
  const auto n = static_cast<double>(tries), found = static_cast<double>(hits);
  if (std::abs(found - n * probability) <= 4.1 * std::sqrt(n * probability * (1 - probability))) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << hits << " of " << tries << ", expected " << n * probability;
}

}  // namespace cosub::testing
