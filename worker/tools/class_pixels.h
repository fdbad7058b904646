// How many pixels of a set of masks each class has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "worker/data/image/mask.h"

namespace cosub::tools {

/// By value, as masks store them.
class PixelsOfValues {
 public:
  static constexpr std::size_t kValues = 65536;

  void add(const data::Mask& mask);
  void add(const PixelsOfValues& other);
  std::int64_t operator[](std::size_t value) const { return counts_.at(value); }

 private:
  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(kValues);
};

/// A table for people: the share that is ignored, the most frequent and the rarest classes with their pixels,
/// and the classes without any. All values must be allowed by `classes`.
std::string class_table(const PixelsOfValues& pixels, const data::MaskClasses& classes);

}  // namespace cosub::tools
