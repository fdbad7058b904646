#include "worker/data/normalize.h"

#include <fmt/format.h>

#include "common/error.h"

namespace cosub::data {

Normalizer::Normalizer(const config::DataConfig& data, std::int64_t channels) : tables_(channels) {
  const auto values = [&](const std::vector<double>& given, const char* key) {
    if (given.empty()) return std::vector<double>(channels, 0.5);
    if (static_cast<std::int64_t>(given.size()) != channels) {
      throw ConfigError(fmt::format("data.{}: {} values found; the images have {} channels, so {} are needed",
                                    key, given.size(), channels, channels));
    }
    return given;
  };
  const std::vector<double> mean = values(data.mean, "mean"), std = values(data.std, "std");
  for (std::int64_t c = 0; c < channels; ++c) {
    if (!(std[c] > 0)) throw ConfigError(fmt::format("data.std: {} found; it must be above 0", std[c]));
    for (int pixel = 0; pixel < 256; ++pixel) {
      tables_[c][pixel] =
          (static_cast<float>(pixel) / 255.0f - static_cast<float>(mean[c])) / static_cast<float>(std[c]);
    }
  }
}

void Normalizer::apply(const Image& image, float* out) const {
  const std::int64_t area = image.height * image.width, channels = image.channels;
  if (channels == 3) {  // one pass over the pixels
    const float *red = tables_[0].data(), *green = tables_[1].data(), *blue = tables_[2].data();
    const std::uint8_t* pixel = image.pixels.data();
    for (std::int64_t i = 0; i < area; ++i, pixel += 3) {
      out[i] = red[pixel[0]];
      out[area + i] = green[pixel[1]];
      out[2 * area + i] = blue[pixel[2]];
    }
    return;
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    const std::array<float, 256>& table = tables_[c];
    const std::uint8_t* pixel = image.pixels.data() + c;
    for (std::int64_t i = 0; i < area; ++i) *out++ = table[pixel[i * channels]];
  }
}

}  // namespace cosub::data
