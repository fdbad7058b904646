#include "worker/data/transform.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/random.h"
#include "worker/data/crop.h"
#include "worker/data/image/color_policy.h"
#include "worker/data/image/geometry.h"
#include "worker/data/resize.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kSimpleCropPadding = 4;  // DeiT III's

Region whole(const StoredImage::Shape& shape) {
  return {0, 0, shape.height, shape.width};
}

/// RandAugment's geometric ops: what lies outside the image has the data's mean colour, as timm's.
Warp warp_of(const config::DataConfig& data) {
  Warp warp;
  warp.resampling =
      data.interpolation == config::Interpolation::kBicubic ? Resampling::kBicubic : Resampling::kBilinear;
  for (std::size_t c = 0; c < warp.fill.size(); ++c) {
    const double mean = c < data.mean.size() ? data.mean[c] : 0.5;
    warp.fill[c] = static_cast<std::uint8_t>(std::clamp(std::nearbyint(255 * mean), 0.0, 255.0));
  }
  return warp;
}

}  // namespace

TrainTransform::TrainTransform(const config::DataConfig& data, std::int64_t channels, std::int64_t image_size,
                               std::uint64_t stream)
    : data_(data), channels_(channels), image_size_(image_size), stream_(stream), warp_(warp_of(data)) {
  if (!data.augment.rand_augment.empty())
    rand_augment_ = config::parse_rand_augment(data.augment.rand_augment);
}

Region TrainTransform::draw_region(const StoredImage::Shape& shape, std::int64_t epoch,
                                   std::int64_t draw) const {
  const config::AugmentConfig& augment = data_.augment;
  if (augment.crop != config::Crop::kRandomResized) return whole(shape);
  KeyedRandom random(stream_, Purpose::kCrop, epoch, draw);
  return draw_random_resized_crop(shape.height, shape.width, augment.scale[0], augment.scale[1],
                                  augment.ratio[0], augment.ratio[1], random);
}

bool TrainTransform::draw_flip(std::int64_t epoch, std::int64_t draw) const {
  if (data_.augment.flip == 0) return false;
  KeyedRandom random(stream_, Purpose::kFlip, epoch, draw);
  return random.uniform() < data_.augment.flip;
}

/// Leaves the S x S image in buffers.a.
void TrainTransform::place(const StoredImage& stored, std::int64_t epoch, std::int64_t draw,
                           ImageBuffers& buffers) const {
  const config::AugmentConfig& augment = data_.augment;
  const StoredImage::Shape shape = shape_of(stored);
  KeyedRandom random(stream_, Purpose::kCrop, epoch, draw);
  const auto draw_corner = [&](std::int64_t room) {
    return static_cast<std::int64_t>(random.uniform_int(static_cast<std::uint64_t>(room + 1)));
  };
  switch (augment.crop) {
    case config::Crop::kRandomResized:
      decode(stored, draw_region(shape, epoch, draw), channels_, buffers.b);
      resize(buffers.b, image_size_, image_size_, data_.interpolation, buffers.a);
      return;
    case config::Crop::kSimple: {
      decode(stored, whole(shape), channels_, buffers.a);
      resize_shorter(buffers.a, image_size_, data_.interpolation, buffers.b);
      Region window{0, 0, image_size_, image_size_};
      window.top = draw_corner(buffers.b.height + 2 * kSimpleCropPadding - image_size_) - kSimpleCropPadding;
      window.left = draw_corner(buffers.b.width + 2 * kSimpleCropPadding - image_size_) - kSimpleCropPadding;
      crop(buffers.b, window, Padding::kReflect, buffers.a);
      return;
    }
    case config::Crop::kNone:
      break;
  }
  decode(stored, whole(shape), channels_, buffers.b);
  if (augment.crop_padding_px > 0) {
    Region window{0, 0, shape.height, shape.width};
    window.top = draw_corner(2 * augment.crop_padding_px) - augment.crop_padding_px;
    window.left = draw_corner(2 * augment.crop_padding_px) - augment.crop_padding_px;
    crop(buffers.b, window, Padding::kZero, buffers.a);
    std::swap(buffers.a, buffers.b);
  }
  resize(buffers.b, image_size_, image_size_, data_.interpolation, buffers.a);
}

void TrainTransform::change_colours(std::int64_t epoch, std::int64_t draw, ImageBuffers& buffers) const {
  const config::AugmentConfig& augment = data_.augment;
  if (augment.three_augment) {
    KeyedRandom random(stream_, Purpose::kThreeAugment, epoch, draw);
    cosub::data::apply(draw_three_augment(random), buffers.a, buffers.b);
  }
  if (augment.color_jitter > 0) {
    KeyedRandom random(stream_, Purpose::kColorJitter, epoch, draw);
    const double range = augment.color_jitter;
    cosub::data::apply(draw_color_jitter(range, range, range, random), buffers.a);
  }
  if (rand_augment_) {
    KeyedRandom random(stream_, Purpose::kRandAugment, epoch, draw);
    for (const DrawnOp& op : draw_rand_augment(*rand_augment_, random)) {
      cosub::data::apply(op, warp_, buffers.a, buffers.b);
    }
  }
}

void TrainTransform::apply(const StoredImage& stored, std::int64_t epoch, std::int64_t draw,
                           ImageBuffers& buffers) const {
  place(stored, epoch, draw, buffers);
  if (draw_flip(epoch, draw)) flip_horizontally(buffers.a);
  change_colours(epoch, draw, buffers);
}

std::vector<ErasedBox> TrainTransform::draw_erased(std::int64_t epoch, std::int64_t draw) const {
  if (data_.augment.erasing == 0) return {};
  KeyedRandom random(stream_, Purpose::kErasing, epoch, draw);
  return draw_erasing({.probability = data_.augment.erasing}, image_size_, image_size_, random);
}

EvalTransform::EvalTransform(const config::DataConfig& data, std::int64_t channels, std::int64_t image_size)
    : data_(data), channels_(channels), image_size_(image_size) {}

void EvalTransform::apply(const StoredImage& stored, ImageBuffers& buffers) const {
  decode(stored, whole(shape_of(stored)), channels_, buffers.a);
  const auto shorter =
      static_cast<std::int64_t>(std::floor(static_cast<double>(image_size_) / data_.crop_ratio));
  resize_shorter(buffers.a, shorter, data_.interpolation, buffers.b);
  // torchvision's CenterCrop rounds half a pixel to even.
  const auto corner = [&](std::int64_t side) {
    return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(side - image_size_) / 2.0));
  };
  const Region window{corner(buffers.b.height), corner(buffers.b.width), image_size_, image_size_};
  crop(buffers.b, window, Padding::kZero, buffers.a);
}

}  // namespace cosub::data
