// What happens to one sample between its stored bytes and its row of a batch. Pure functions of their
// arguments; everything drawn is keyed by (stream, epoch, draw), so that it depends neither on the
// microbatch's size nor on where in it the image stands, and stays with the place when a bad sample is
// replaced.
#pragma once

#include <cstdint>

#include "common/config/pipeline.h"
#include "worker/data/normalize.h"
#include "worker/data/source.h"

namespace cosub::data {

/// A thread's own buffers, used again for one image after another.
struct ImageBuffers {
  ByteBuffer stored;
  Image a, b;
};

/// Training: crop, flip, resize, normalise. In which order, and what each means, stands at
/// config::AugmentConfig's keys in docs/configuration.md.
class TrainTransform {
 public:
  TrainTransform(const config::DataConfig& data, std::int64_t channels, std::int64_t image_size,
                 std::uint64_t stream);
  /// `draw`: StepPlan::Place's. -> `row`: C * S * S floats. DataError when the image cannot be decoded.
  void apply(const StoredImage& stored, std::int64_t epoch, std::int64_t draw, ImageBuffers& buffers,
             float* row) const;

 private:
  void place(const StoredImage& stored, std::int64_t epoch, std::int64_t draw, ImageBuffers& buffers) const;
  config::DataConfig data_;
  std::int64_t channels_, image_size_;
  std::uint64_t stream_;
  Normalizer normalizer_;
};

/// Evaluation, nothing random: the shorter side resized to floor(S / crop_ratio), the S x S centre,
/// normalised, as timm's transforms_imagenet_eval.
class EvalTransform {
 public:
  EvalTransform(const config::DataConfig& data, std::int64_t channels, std::int64_t image_size);
  void apply(const StoredImage& stored, ImageBuffers& buffers, float* row) const;

 private:
  config::DataConfig data_;
  std::int64_t channels_, image_size_;
  Normalizer normalizer_;
};

}  // namespace cosub::data
