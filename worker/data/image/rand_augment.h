// RandAugment as timm (auto_augment.py) implements it: named by its configuration string, with the fifteen
// ops whose severity grows with the magnitude. What is drawn is a value; applying it is pure.
#pragma once

#include <string_view>
#include <vector>

#include "common/random.h"
#include "worker/data/image/affine.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// timm's "rand-m9-mstd0.5-inc1" and the like, sections in any order, each at most once:
///   m magnitude (10)   n ops per image (2)   p probability of each (0.5)   inc1 the increasing set, required
///   mstd deviation of the magnitude (0), above 100: uniform in [0, m]   mmax upper bound of it (10)
struct RandAugmentConfig {
  double magnitude = 10, magnitude_std = 0, magnitude_max = 10;
  double probability = 0.5;
  int num_ops = 2;
};
/// ConfigError that quotes the section it does not understand.
RandAugmentConfig parse_rand_augment(std::string_view text);

enum class RandOp {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kSolarizeAdd,
  kColor,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
};
inline constexpr int kNumRandOps = 15;

/// One op and what its magnitude means for it: degrees, bits, a threshold, a factor or a share of the side; 0
/// where the op takes nothing.
struct DrawnOp {
  RandOp op = RandOp::kAutoContrast;
  double argument = 0;
};
/// timm's level of this op at a magnitude; `negative` where the op has a random sign.
DrawnOp op_at(RandOp op, double magnitude, bool negative);

/// At most config.num_ops ops, with replacement; those whose probability did not come up are left out.
std::vector<DrawnOp> draw_rand_augment(const RandAugmentConfig& config, KeyedRandom& random);
void apply(const DrawnOp& drawn, const Warp& warp, Image& image, Image& scratch);

}  // namespace cosub::data
