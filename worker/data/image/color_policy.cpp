#include "worker/data/image/color_policy.h"

#include <algorithm>

#include "worker/data/image/photometric.h"

namespace cosub::data {

ThreeAugment draw_three_augment(KeyedRandom& random) {
  constexpr double kMinSigma = 0.1, kMaxSigma = 2.0;
  ThreeAugment drawn;
  drawn.kind = static_cast<ThreeAugment::Kind>(random.uniform_int(3));
  drawn.sigma = kMinSigma + (kMaxSigma - kMinSigma) * random.uniform();
  return drawn;
}

void apply(const ThreeAugment& drawn, Image& image, Image& scratch) {
  constexpr int kSolarizeThreshold = 128;
  switch (drawn.kind) {
    case ThreeAugment::Kind::kGrayscale:
      return grayscale(image);
    case ThreeAugment::Kind::kSolarize:
      return solarize(image, kSolarizeThreshold);
    case ThreeAugment::Kind::kBlur:
      return gaussian_blur(image, drawn.sigma, scratch);
  }
}

ColorJitter draw_color_jitter(double brightness, double contrast, double saturation, KeyedRandom& random) {
  const std::array<double, 3> ranges{brightness, contrast, saturation};
  ColorJitter drawn;
  for (int i = 0; i < 3; ++i) {
    const double low = std::max(0.0, 1 - ranges[i]);
    drawn.steps[i] = {static_cast<ColorJitter::Kind>(i), low + (1 + ranges[i] - low) * random.uniform()};
  }
  for (std::size_t i = 2; i > 0; --i) std::swap(drawn.steps[i], drawn.steps[random.uniform_int(i + 1)]);
  return drawn;
}

void apply(const ColorJitter& drawn, Image& image) {
  for (const ColorJitter::Step& step : drawn.steps) {
    if (step.factor == 1) continue;
    switch (step.kind) {
      case ColorJitter::Kind::kBrightness:
        adjust_brightness(image, step.factor);
        break;
      case ColorJitter::Kind::kContrast:
        adjust_contrast(image, step.factor);
        break;
      case ColorJitter::Kind::kSaturation:
        adjust_color(image, step.factor);
        break;
    }
  }
}

}  // namespace cosub::data
