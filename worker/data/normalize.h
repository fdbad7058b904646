// From 8-bit pixels to the model's input.
#pragma once

#include <cstdint>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// (pixel / 255 - mean) / std in float32: equal to the bit to torchvision's ToTensor and Normalize.
class Normalizer {
 public:
  /// Mean and standard deviation per channel (0.5 where the config has none); ConfigError when their number
  /// is not the number of channels.
  Normalizer(const config::DataConfig& data, std::int64_t channels);
  /// [H, W, C], C of 1 or 3 -> `out`: C * H * W floats, channel after channel.
  void apply(const Image& image, float* out) const;

 private:
  std::vector<float> mean_, std_;  // by channel
};

}  // namespace cosub::data
