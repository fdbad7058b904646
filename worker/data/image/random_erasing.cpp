#include "worker/data/image/random_erasing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace cosub::data {
namespace {

constexpr int kTries = 10;

std::int64_t draw_to(std::int64_t last, KeyedRandom& random) {
  return static_cast<std::int64_t>(random.uniform_int(static_cast<std::uint64_t>(last + 1)));
}

/// Four normal numbers (Box-Muller) of one Philox block; finer steps than 32 bits would be lost in a float.
std::array<float, 4> normals(const std::array<std::uint32_t, 4>& words) {
  constexpr float kStep = 0x1p-32f;
  std::array<float, 4> result;
  for (int i = 0; i < 4; i += 2) {
    const float length = std::sqrt(-2 * std::log((static_cast<float>(words[i]) + 1) * kStep));
    const float angle = 2 * std::numbers::pi_v<float> * (static_cast<float>(words[i + 1]) * kStep);
    result[i] = length * std::cos(angle);
    result[i + 1] = length * std::sin(angle);
  }
  return result;
}

}  // namespace

std::vector<ErasedBox> draw_erasing(const ErasingConfig& config, std::int64_t height, std::int64_t width,
                                    KeyedRandom& random) {
  std::vector<ErasedBox> boxes;
  if (random.uniform() >= config.probability) return boxes;
  std::int64_t count = config.min_count;
  if (config.max_count > count) count += draw_to(config.max_count - count, random);
  const auto whole = static_cast<double>(height * width);
  const double log_min = std::log(config.min_aspect), log_max = std::log(1 / config.min_aspect);
  for (std::int64_t i = 0; i < count; ++i) {
    for (int attempt = 0; attempt < kTries; ++attempt) {
      const double share = config.min_area + (config.max_area - config.min_area) * random.uniform();
      const double area = share * whole / static_cast<double>(count);
      const double aspect = std::exp(log_min + (log_max - log_min) * random.uniform());
      Region region;
      region.height = static_cast<std::int64_t>(std::nearbyint(std::sqrt(area * aspect)));
      region.width = static_cast<std::int64_t>(std::nearbyint(std::sqrt(area / aspect)));
      if (region.height >= height || region.width >= width) continue;
      region.top = draw_to(height - region.height, random);
      region.left = draw_to(width - region.width, random);
      boxes.push_back({region, random.next_u64()});
      break;
    }
  }
  return boxes;
}

void erase(const ErasedBox& box, EraseMode mode, std::int64_t channels, std::int64_t height,
           std::int64_t width, std::span<float> image) {
  if (static_cast<std::int64_t>(image.size()) != channels * height * width) {
    throw std::logic_error("erase: the image has another size");
  }
  const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(box.noise),
                                         static_cast<std::uint32_t>(box.noise >> 32)};
  std::uint32_t block = 0;
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t y = box.region.top; y < box.region.top + box.region.height; ++y) {
      float* row = image.data() + (c * height + y) * width + box.region.left;
      if (mode == EraseMode::kConst) {
        std::fill_n(row, box.region.width, 0.0f);
        continue;
      }
      for (std::int64_t x = 0; x < box.region.width; x += 4) {
        const std::array<float, 4> noise = normals(philox4x32({block++, 0, 0, 0}, key));
        std::copy_n(noise.begin(), std::min<std::int64_t>(4, box.region.width - x), row + x);
      }
    }
  }
}

}  // namespace cosub::data
