// RandAugment as timm (auto_augment.py) implements it: named by its configuration string, with the fifteen
// ops whose severity grows with the magnitude. What is drawn is a value; applying it is pure.
#pragma once

#include <vector>

#include "common/config/rand_augment.h"
#include "common/random.h"
#include "worker/data/image/affine.h"
#include "worker/data/image/image.h"

namespace cosub::data {

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
std::vector<DrawnOp> draw_rand_augment(const config::RandAugmentConfig& config, KeyedRandom& random);
void apply(const DrawnOp& drawn, const Warp& warp, Image& image, Image& scratch);

}  // namespace cosub::data
