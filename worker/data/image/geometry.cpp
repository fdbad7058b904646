#include "worker/data/image/geometry.h"

#include <algorithm>
#include <cmath>

namespace cosub::data {
namespace {

/// Python's round: half to even.
std::int64_t rounded(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

Region centre_crop(std::int64_t height, std::int64_t width, double ratio_min, double ratio_max) {
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  Region region{0, 0, height, width};
  if (ratio < ratio_min) {
    region.height = std::clamp<std::int64_t>(rounded(static_cast<double>(width) / ratio_min), 1, height);
  } else if (ratio > ratio_max) {
    region.width = std::clamp<std::int64_t>(rounded(static_cast<double>(height) * ratio_max), 1, width);
  }
  region.top = (height - region.height) / 2;
  region.left = (width - region.width) / 2;
  return region;
}

}  // namespace

Region draw_random_resized_crop(std::int64_t height, std::int64_t width, double scale_min, double scale_max,
                                double ratio_min, double ratio_max, KeyedRandom& random) {
  constexpr int kTries = 10;
  const auto area = static_cast<double>(height * width);
  const double log_min = std::log(ratio_min), log_max = std::log(ratio_max);
  for (int i = 0; i < kTries; ++i) {
    const double target = area * (scale_min + (scale_max - scale_min) * random.uniform());
    const double ratio = std::exp(log_min + (log_max - log_min) * random.uniform());
    Region region;
    region.width = rounded(std::sqrt(target * ratio));
    region.height = rounded(std::sqrt(target / ratio));
    if (region.width < 1 || region.height < 1 || region.width > width || region.height > height) continue;
    region.top = static_cast<std::int64_t>(random.uniform_int(height - region.height + 1));
    region.left = static_cast<std::int64_t>(random.uniform_int(width - region.width + 1));
    return region;
  }
  return centre_crop(height, width, ratio_min, ratio_max);
}

}  // namespace cosub::data
