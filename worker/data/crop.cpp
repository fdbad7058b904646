#include "worker/data/crop.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace cosub::data {
namespace {

/// Where index `i` comes from in a line of `size`; -1: from nowhere.
std::int64_t source_index(std::int64_t i, std::int64_t size, Padding padding) {
  if (i >= 0 && i < size) return i;
  if (padding == Padding::kZero) return -1;
  const std::int64_t mirrored = i < 0 ? -i : 2 * (size - 1) - i;
  if (mirrored < 0 || mirrored >= size) throw std::logic_error("crop: padding beyond the mirrored image");
  return mirrored;
}

}  // namespace

void crop(const Image& image, const Region& window, Padding padding, Image& out) {
  const std::int64_t pixel = image.channels;
  out.reshape(window.height, window.width, pixel);
  // [begin, end): the window's columns that lie inside the image.
  const std::int64_t begin = std::clamp<std::int64_t>(-window.left, 0, window.width);
  const std::int64_t end = std::clamp<std::int64_t>(image.width - window.left, begin, window.width);
  const auto copy_padding = [&](const std::uint8_t* from, std::uint8_t* to, std::int64_t first,
                                std::int64_t last) {
    for (std::int64_t x = first; x < last; ++x) {
      const std::int64_t source = source_index(x + window.left, image.width, padding);
      if (source < 0) {
        std::memset(to + x * pixel, 0, pixel);
      } else {
        std::memcpy(to + x * pixel, from + source * pixel, pixel);
      }
    }
  };
  for (std::int64_t y = 0; y < window.height; ++y) {
    std::uint8_t* to = out.row(y);
    const std::int64_t source_y = source_index(y + window.top, image.height, padding);
    if (source_y < 0) {
      std::memset(to, 0, out.row_bytes());
      continue;
    }
    const std::uint8_t* from = image.row(source_y);
    copy_padding(from, to, 0, begin);
    if (end > begin)
      std::memcpy(to + begin * pixel, from + (begin + window.left) * pixel, (end - begin) * pixel);
    copy_padding(from, to, end, window.width);
  }
}

void flip_horizontally(Image& image) {
  if (image.channels == 1) {
    for (std::int64_t y = 0; y < image.height; ++y) std::reverse(image.row(y), image.row(y) + image.width);
    return;
  }
  // Four bytes at a time: the fourth is the next pixel's, which is written after it.
  thread_local ByteBuffer line;
  line.resize(image.row_bytes() + 1, boost::container::default_init);
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint8_t* to = image.row(y);
    std::memcpy(line.data(), to, image.row_bytes());
    const std::uint8_t* from = line.data() + image.row_bytes() - 3;
    for (std::int64_t x = 0; x + 1 < image.width; ++x, to += 3, from -= 3) std::memcpy(to, from, 4);
    std::memcpy(to, line.data(), 3);
  }
}

}  // namespace cosub::data
