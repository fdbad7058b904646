// Random erasing (Zhong et al., arXiv 1708.04896) as timm's RandomErasing does it: boxes of a normalised
// image filled with noise or zero. What is drawn is a value; filling is pure, on the calling thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/random.h"
#include "worker/data/image/image.h"

namespace cosub::data {

enum class EraseMode { kConst, kPixel };  // zero; a normal number for each pixel and channel

/// DeiT's probability and mode, else timm's defaults. A box has an area uniform in [min_area, max_area] of
/// the image's, divided by the number of boxes, and a ratio height / width log-uniform in [min_aspect, 1 /
/// min_aspect].
struct ErasingConfig {
  double probability = 0.25;
  double min_area = 0.02, max_area = 1.0 / 3;
  double min_aspect = 0.3;
  EraseMode mode = EraseMode::kPixel;
  int min_count = 1, max_count = 1;  // boxes, uniform
};

struct ErasedBox {
  Region region;
  std::uint64_t noise = 0;  // the key of its noise
};

/// Empty where the probability did not come up; a box that does not fit in ten tries is left out.
std::vector<ErasedBox> draw_erasing(const ErasingConfig& config, std::int64_t height, std::int64_t width,
                                    KeyedRandom& random);

/// `image`: [channels, height, width] floats; the box lies inside.
void erase(const ErasedBox& box, EraseMode mode, std::int64_t channels, std::int64_t height,
           std::int64_t width, std::span<float> image);

}  // namespace cosub::data
