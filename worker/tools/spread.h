// The smallest, the median and the largest of repeated measurements.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>
#include <vector>

namespace cosub::tools {

struct Spread {
  double min = 0, median = 0, max = 0;

  /// std::invalid_argument when there is none; of an even number the median is the mean of the middle two.
  static Spread of(std::vector<double> values) {
    if (values.empty()) throw std::invalid_argument("Spread::of: no values");
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    return {values.front(), median, values.back()};
  }

  /// Of amount / value, the largest value giving the smallest.
  Spread per(double amount) const { return {amount / max, amount / median, amount / min}; }

  nlohmann::json json() const { return {{"min", min}, {"median", median}, {"max", max}}; }
};

}  // namespace cosub::tools
