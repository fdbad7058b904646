#include "worker/data/image/rand_augment.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "worker/data/image/photometric.h"

namespace cosub::data {
namespace {

constexpr double kLevels = 10;  // timm's unit of magnitude
constexpr int kSolarizeAddThreshold = 128;

double draw_magnitude(const config::RandAugmentConfig& config, KeyedRandom& random) {
  double magnitude = config.magnitude;
  if (std::isinf(config.magnitude_std)) {
    magnitude *= random.uniform();
  } else if (config.magnitude_std > 0) {
    magnitude += config.magnitude_std * random.normal();
  }
  return std::clamp(magnitude, 0.0, config.magnitude_max);
}

}  // namespace

DrawnOp op_at(RandOp op, double magnitude, bool negative) {
  const double level = magnitude / kLevels, sign = negative ? -1 : 1;
  switch (op) {
    case RandOp::kAutoContrast:
    case RandOp::kEqualize:
    case RandOp::kInvert:
      return {op, 0};
    case RandOp::kRotate:
      return {op, sign * level * 30};
    case RandOp::kPosterize:
      return {op, 4 - std::trunc(level * 4)};
    case RandOp::kSolarize:
      return {op, 256 - std::min(256.0, std::trunc(level * 256))};
    case RandOp::kSolarizeAdd:
      return {op, std::min(128.0, std::trunc(level * 110))};
    case RandOp::kColor:
    case RandOp::kContrast:
    case RandOp::kBrightness:
    case RandOp::kSharpness:
      return {op, std::max(0.1, 1 + sign * level * 0.9)};
    case RandOp::kShearX:
    case RandOp::kShearY:
      return {op, sign * level * 0.3};
    case RandOp::kTranslateX:
    case RandOp::kTranslateY:
      return {op, sign * level * 0.45};
  }
  throw std::logic_error("op_at: no such op");
}

std::vector<DrawnOp> draw_rand_augment(const config::RandAugmentConfig& config, KeyedRandom& random) {
  std::vector<DrawnOp> drawn;
  for (int i = 0; i < config.num_ops; ++i) {
    const auto op = static_cast<RandOp>(random.uniform_int(kNumRandOps));
    const bool comes_up = random.uniform() < config.probability;
    const double magnitude = draw_magnitude(config, random);
    const bool negative = random.uniform() < 0.5;
    if (comes_up) drawn.push_back(op_at(op, magnitude, negative));
  }
  return drawn;
}

void apply(const DrawnOp& drawn, const Warp& warp, Image& image, Image& scratch) {
  const double argument = drawn.argument;
  const int whole = static_cast<int>(argument);
  switch (drawn.op) {
    case RandOp::kAutoContrast:
      return autocontrast(image);
    case RandOp::kEqualize:
      return equalize(image);
    case RandOp::kInvert:
      return invert(image);
    case RandOp::kRotate:
      return rotate(image, argument, warp, scratch);
    case RandOp::kPosterize:
      return posterize(image, std::max(0, whole));
    case RandOp::kSolarize:
      return solarize(image, whole);
    case RandOp::kSolarizeAdd:
      return solarize_add(image, whole, kSolarizeAddThreshold);
    case RandOp::kColor:
      return adjust_color(image, argument);
    case RandOp::kContrast:
      return adjust_contrast(image, argument);
    case RandOp::kBrightness:
      return adjust_brightness(image, argument);
    case RandOp::kSharpness:
      return adjust_sharpness(image, argument, scratch);
    case RandOp::kShearX:
      return shear_x(image, argument, warp, scratch);
    case RandOp::kShearY:
      return shear_y(image, argument, warp, scratch);
    case RandOp::kTranslateX:
      return translate_x(image, argument, warp, scratch);
    case RandOp::kTranslateY:
      return translate_y(image, argument, warp, scratch);
  }
}

}  // namespace cosub::data
