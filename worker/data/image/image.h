// A decoded image in memory. Everything in this folder works on it, on the calling thread alone, without
// LibTorch.
#pragma once

#include <boost/container/vector.hpp>

#include <cstddef>
#include <cstdint>

namespace cosub::data {

/// Bytes whose growth is not cleared first: a thread keeps its buffers and gives them to one image after
/// another.
using ByteBuffer = boost::container::vector<std::uint8_t>;

/// Interleaved 8-bit sRGB (3 channels) or luma (1 channel).
struct Image {
  std::int64_t height = 0, width = 0, channels = 0;
  ByteBuffer pixels;  // [height, width, channels]; at least that many bytes

  std::int64_t row_bytes() const { return width * channels; }
  std::uint8_t* row(std::int64_t y) { return pixels.data() + y * row_bytes(); }
  const std::uint8_t* row(std::int64_t y) const { return pixels.data() + y * row_bytes(); }

  /// Takes the shape; the pixels are whatever was there.
  void reshape(std::int64_t new_height, std::int64_t new_width, std::int64_t new_channels) {
    height = new_height;
    width = new_width;
    channels = new_channels;
    const auto needed = static_cast<std::size_t>(height * width * channels);
    if (pixels.size() < needed) pixels.resize(needed, boost::container::default_init);
  }
};

/// Part of an image, in pixels: rows [top, top + height), columns [left, left + width).
struct Region {
  std::int64_t top = 0, left = 0, height = 0, width = 0;
  bool operator==(const Region&) const = default;
};

}  // namespace cosub::data
