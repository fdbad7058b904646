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
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint8_t* row = image.row(y);
    if (image.channels == 1) {
      std::reverse(row, row + image.width);
      continue;
    }
    for (std::uint8_t *a = row, *b = row + 3 * (image.width - 1); a < b; a += 3, b -= 3) {
      std::swap(a[0], b[0]);
      std::swap(a[1], b[1]);
      std::swap(a[2], b[2]);
    }
  }
}

}  // namespace cosub::data
