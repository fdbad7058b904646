// timm's notation of RandAugment (auto_augment.py), read where a pipeline is read.
// worker/data/image/rand_augment.h draws and applies it.
#pragma once

#include <string_view>

namespace cosub::config {

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

}  // namespace cosub::config
