// Options that vary images in every way both decoders know: what loader tests start from.
#pragma once

#include "worker/data/loader.h"

namespace cosub::data {

inline TrainLoader::Options varied_options() {
  TrainLoader::Options options;
  options.data.augment.crop = config::Crop::kRandomResized;
  options.data.augment.flip = 0.5;
  options.data.augment.erasing = 0.5;
  options.data.mean = {0.485, 0.456, 0.406};
  options.data.std = {0.229, 0.224, 0.225};
  options.data.mix = {.mixup = 0.8, .cutmix = 1.0, .prob = 0.9, .switch_prob = 0.5, .smoothing = 0.1};
  options.classes = 10;
  options.image_size = 24;
  options.stream = 3;
  return options;
}

}  // namespace cosub::data
