// What happens to one sample between its picture and its row of a batch: 8-bit pixels of the model's size.
// Normalising and erasing come after (inputs.h). Pure functions of their arguments; everything drawn is keyed
// by (stream, epoch, draw), so that it depends neither on the microbatch's size nor on where in it the image
// stands, and stays with the place when a bad sample is replaced.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/data/image/affine.h"
#include "worker/data/image/rand_augment.h"
#include "worker/data/image/random_erasing.h"
#include "worker/data/picture_reader.h"
#include "worker/data/source.h"

namespace cosub::data {

/// Training: crop, flip, 3-Augment, colour jitter, RandAugment. What each means stands at
/// config::AugmentConfig's keys in docs/configuration.md.
class TrainTransform {
 public:
  /// ConfigError when data.augment.rand_augment cannot be understood (`cosub data bench` takes it unread).
  TrainTransform(const config::DataConfig& data, std::int64_t channels, std::int64_t image_size,
                 std::uint64_t stream);
  /// `draw`: StepPlan::Place's. Leaves the S x S image in buffers.a. DataError when the image cannot be
  /// decoded.
  void apply(const StoredImage& stored, std::int64_t epoch, std::int64_t draw, ImageBuffers& buffers) const;
  /// What apply() draws first: which part of a picture of this shape is resized to S x S with crop
  /// random_resized or none, and whether it is flipped. For a device that does the same.
  Region draw_region(const StoredImage::Shape& shape, std::int64_t epoch, std::int64_t draw) const;
  bool draw_flip(std::int64_t epoch, std::int64_t draw) const;
  /// What random erasing takes from that place's row.
  std::vector<ErasedBox> draw_erased(std::int64_t epoch, std::int64_t draw) const;

 private:
  void place(const StoredImage& stored, std::int64_t epoch, std::int64_t draw, ImageBuffers& buffers) const;
  void change_colours(std::int64_t epoch, std::int64_t draw, ImageBuffers& buffers) const;
  config::DataConfig data_;
  std::int64_t channels_, image_size_;
  std::uint64_t stream_;
  std::optional<config::RandAugmentConfig> rand_augment_;
  Warp warp_;
};

/// Evaluation, nothing random: the shorter side resized to floor(S / crop_ratio), the S x S centre, as timm's
/// transforms_imagenet_eval. Leaves it in buffers.a.
class EvalTransform {
 public:
  EvalTransform(const config::DataConfig& data, std::int64_t channels, std::int64_t image_size);
  void apply(const StoredImage& stored, ImageBuffers& buffers) const;

 private:
  config::DataConfig data_;
  std::int64_t channels_, image_size_;
};

}  // namespace cosub::data
