// From decoded pixels to the model's input: crop and flip on uint8, resize, normalise. Plain functions of
// their arguments; what is drawn comes in as a value. All run on the calling thread alone.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::data {

/// What was drawn for one image: where the crop begins in the padded image, and whether it is mirrored.
struct Placement {
  std::int64_t top = 0, left = 0;  // in [0, 2 * padding]
  bool flip = false;
};

/// Keyed by (stream, epoch, position in the epoch's order), so that it depends neither on the microbatch's
/// size nor on where in it the image stands, and stays with the position when a bad sample is replaced.
Placement draw_placement(const config::AugmentConfig& augment, std::uint64_t stream, std::int64_t epoch,
                         std::int64_t position);

/// The window of the image's own size out of the image padded by `padding_px` on every side, mirrored where
/// asked. Padding has the pixel value 0 before normalisation, as torchvision's RandomCrop(padding=...) has
/// it. image, result: uint8 [C, H, W], contiguous.
at::Tensor crop_and_flip(const at::Tensor& image, std::int64_t padding_px, const Placement& placement);

/// Bilinear with anti-aliasing on uint8, as torchvision's Resize(antialias=True): LibTorch's own kernel.
/// [C, H, W] -> [C, size, size]; the image itself when it has that size.
at::Tensor resize(const at::Tensor& image, std::int64_t size_px);

/// (pixel / 255 - mean) / std in float32, by table: equal to the bit to torchvision's ToTensor and Normalize.
class Normalizer {
 public:
  /// Mean and standard deviation per channel (0.5 where the config has none); ConfigError when their number
  /// is not the number of channels.
  Normalizer(const config::DataConfig& data, std::int64_t channels);
  /// image: uint8 [C, S, S] contiguous -> `out`: C * S * S floats.
  void apply(const at::Tensor& image, float* out) const;

 private:
  std::vector<std::array<float, 256>> tables_;  // by channel
};

}  // namespace cosub::data
