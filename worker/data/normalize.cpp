#include "worker/data/normalize.h"

#include <fmt/format.h>

#include "common/error.h"
#include "common/vector_clones.h"

namespace cosub::data {

namespace {

// Divisions, not products with inverses, which would give other bits.
COSUB_VECTOR_CLONES void normalize_rgb(const std::uint8_t* __restrict pixels, std::int64_t area,
                                       const float* mean, const float* std, float* __restrict red,
                                       float* __restrict green, float* __restrict blue) {
  const float mean_red = mean[0], mean_green = mean[1], mean_blue = mean[2];
  const float std_red = std[0], std_green = std[1], std_blue = std[2];
  for (std::int64_t i = 0; i < area; ++i) {
    red[i] = (static_cast<float>(pixels[3 * i]) / 255.0f - mean_red) / std_red;
    green[i] = (static_cast<float>(pixels[3 * i + 1]) / 255.0f - mean_green) / std_green;
    blue[i] = (static_cast<float>(pixels[3 * i + 2]) / 255.0f - mean_blue) / std_blue;
  }
}

COSUB_VECTOR_CLONES void normalize_gray(const std::uint8_t* __restrict pixels, std::int64_t area, float mean,
                                        float std, float* __restrict out) {
  for (std::int64_t i = 0; i < area; ++i) out[i] = (static_cast<float>(pixels[i]) / 255.0f - mean) / std;
}

}  // namespace

Normalizer::Normalizer(const config::DataConfig& data, std::int64_t channels) {
  const auto values = [&](const std::vector<double>& given, const char* key) {
    if (given.empty()) return std::vector<float>(channels, 0.5f);
    if (static_cast<std::int64_t>(given.size()) != channels) {
      throw ConfigError(fmt::format("data.{}: {} values found; the images have {} channels, so {} are needed",
                                    key, given.size(), channels, channels));
    }
    return std::vector<float>(given.begin(), given.end());
  };
  mean_ = values(data.mean, "mean");
  std_ = values(data.std, "std");
  for (const double std : data.std) {
    if (!(std > 0)) throw ConfigError(fmt::format("data.std: {} found; it must be above 0", std));
  }
}

void Normalizer::apply(const Image& image, float* out) const {
  const std::int64_t area = image.height * image.width;
  const std::uint8_t* pixels = image.pixels.data();
  if (image.channels == 3) {
    normalize_rgb(pixels, area, mean_.data(), std_.data(), out, out + area, out + 2 * area);
  } else {
    normalize_gray(pixels, area, mean_[0], std_[0], out);
  }
}

}  // namespace cosub::data
