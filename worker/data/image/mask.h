// Masks of segmentation: PNG files whose pixels are class numbers. Pure; on the calling thread.
#pragma once

#include <boost/container/vector.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace cosub::data {

/// The numbers as they are stored, before anybody decides which of them mean "ignore". Always 16 bits wide,
/// so that whoever reads them has one type to handle; not an Image, whose pixels are colours and get resized
/// and converted as such.
struct Mask {
  std::int64_t height = 0, width = 0;
  boost::container::vector<std::uint16_t> values;  // [height, width]; at least that many

  std::int64_t size() const { return height * width; }
  const std::uint16_t* row(std::int64_t y) const { return values.data() + y * width; }

  /// Takes the shape; the values are whatever was there.
  void reshape(std::int64_t new_height, std::int64_t new_width) {
    height = new_height;
    width = new_width;
    const auto needed = static_cast<std::size_t>(size());
    if (values.size() < needed) values.resize(needed, boost::container::default_init);
  }
};

/// The whole mask: a PNG is decompressed from its beginning whatever part is wanted. Greyscale gives its
/// samples (1, 2, 4 and 8 bits: 0 to 1, 3, 15, 255, not scaled; 16 bits: 0 to 65535), a palette its indices,
/// whatever colours they have. DataError, without the file's name, when the bytes are damaged, no PNG, a PNG
/// with colours or alpha, or more than kMaxPixels.
void decode_mask(std::span<const std::uint8_t> bytes, Mask& out);

/// What a set's values mean. A value that is neither ignored nor a class below num_classes is an error in the
/// mask.
struct MaskClasses {
  std::int64_t num_classes = 0;
  std::int64_t ignore_value = 255;  // as stored; comes before any class of this number
  bool zero_is_ignored = false;     // then the values from 1 are the classes from 0, as in ADE20K

  bool is_ignored(std::uint16_t value) const {
    return value == ignore_value || (zero_is_ignored && value == 0);
  }
  /// Of a value that is not ignored.
  std::int64_t class_of(std::uint16_t value) const { return value - (zero_is_ignored ? 1 : 0); }
  bool is_allowed(std::uint16_t value) const { return is_ignored(value) || class_of(value) < num_classes; }
};

}  // namespace cosub::data
