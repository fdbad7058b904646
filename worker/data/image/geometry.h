// Which part of an image a random crop takes.
#pragma once

#include "common/random.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// torchvision's RandomResizedCrop.get_params: up to ten times an area uniform in [scale_min, scale_max] of
/// the image's and a ratio width / height log-uniform in [ratio_min, ratio_max], until they fit; else the
/// largest centre crop whose ratio is in range.
Region draw_random_resized_crop(std::int64_t height, std::int64_t width, double scale_min, double scale_max,
                                double ratio_min, double ratio_max, KeyedRandom& random);

}  // namespace cosub::data
