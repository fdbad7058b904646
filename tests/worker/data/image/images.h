// Images for tests: smooth like photographs, with edges and noise, the same for the same seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/random.h"
#include "worker/data/image/image.h"

namespace cosub::testing {

inline data::Image make_photograph(std::int64_t height, std::int64_t width, std::int64_t channels,
                                   std::uint64_t seed = 1) {
  KeyedRandom random(seed, Purpose::kTest, 0, 0);
  double waves[3][4];
  for (auto& wave : waves) {
    for (double& value : wave) value = random.uniform();
  }
  data::Image image;
  image.reshape(height, width, channels);
  std::uint32_t noise = random.next_u32() | 1u;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t i = 0; i < width * channels; ++i) {
      const double* wave = waves[i % channels];
      const auto x = static_cast<double>(i / channels), row = static_cast<double>(y);
      noise = noise * 1664525u + 1013904223u;
      double value =
          128 + 90 * std::sin(x * wave[0] / 4 + wave[1] * 6) * std::cos(row * wave[2] / 4 + wave[3]);
      if (std::fmod(x + 2 * row, 64) < 20) value = 255 - value;  // edges
      value += static_cast<double>(noise >> 28);
      image.row(y)[i] = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
    }
  }
  return image;
}

/// The region's pixels, copied.
inline data::Image part(const data::Image& image, const data::Region& region) {
  data::Image out;
  out.reshape(region.height, region.width, image.channels);
  for (std::int64_t y = 0; y < region.height; ++y) {
    const std::uint8_t* from = image.row(region.top + y) + region.left * image.channels;
    std::copy(from, from + out.row_bytes(), out.row(y));
  }
  return out;
}

inline bool same_pixels(const data::Image& a, const data::Image& b) {
  return a.height == b.height && a.width == b.width && a.channels == b.channels &&
         std::equal(a.row(0), a.row(a.height), b.row(0));
}

inline data::Region draw_region(const data::Image& image, KeyedRandom& random) {
  data::Region region;
  region.height = 1 + static_cast<std::int64_t>(random.uniform_int(image.height));
  region.width = 1 + static_cast<std::int64_t>(random.uniform_int(image.width));
  region.top = static_cast<std::int64_t>(random.uniform_int(image.height - region.height + 1));
  region.left = static_cast<std::int64_t>(random.uniform_int(image.width - region.width + 1));
  return region;
}

}  // namespace cosub::testing
