// Two drawn changes of colour: DeiT III's 3-Augment and torchvision's ColorJitter. What is drawn is a value;
// applying it is pure. On the calling thread; `scratch` as in photometric.h.
#pragma once

#include <array>
#include <utility>

#include "common/random.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// One of three, equally likely (Touvron et al., "DeiT III", arXiv 2204.07118).
struct ThreeAugment {
  enum class Kind { kGrayscale, kSolarize, kBlur };
  Kind kind = Kind::kGrayscale;
  double sigma = 0;  // kBlur: pixels, uniform in [0.1, 2]
};
ThreeAugment draw_three_augment(KeyedRandom& random);
void apply(const ThreeAugment& drawn, Image& image, Image& scratch);

/// torchvision's ColorJitter without hue.
struct ColorJitter {
  enum class Kind { kBrightness, kContrast, kSaturation };
  struct Step {
    Kind kind = Kind::kBrightness;
    double factor = 1;
  };
  std::array<Step, 3> steps;  // in their random order
};
/// Each factor is uniform in [max(0, 1 - x), 1 + x]; x = 0 leaves the image alone.
ColorJitter draw_color_jitter(double brightness, double contrast, double saturation, KeyedRandom& random);
void apply(const ColorJitter& drawn, Image& image);

}  // namespace cosub::data
