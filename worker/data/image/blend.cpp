#include <algorithm>
#include <span>
#include <utility>

#include "common/vector_clones.h"
#include "worker/data/image/convert.h"
#include "worker/data/image/photometric.h"

namespace cosub::data {
namespace {

using Bytes = std::span<std::uint8_t>;

Bytes bytes_of(Image& image) {
  return {image.row(0), image.row(image.height)};
}

/// Image.blend: single precision, the fraction cut off. Clamped after that, which gives the same and is
/// quick.
inline std::uint8_t blend(int from, int to, float factor) {
  const float value = static_cast<float>(from) + factor * static_cast<float>(to - from);
  return static_cast<std::uint8_t>(std::clamp(static_cast<int>(value), 0, 255));
}

/// A larger factor gives no other pixels, and would not fit in an int.
float clamped(double factor) {
  return std::clamp(static_cast<float>(factor), -1e6f, 1e6f);
}

/// Some pixels with their channels apart, as vectors want them.
struct Planes {
  static constexpr std::size_t kSize = 512;
  alignas(64) std::uint8_t r[kSize], g[kSize], b[kSize];
};

inline void split(const std::uint8_t* pixels, std::size_t count, Planes& planes) {
  for (std::size_t i = 0; i < count; ++i) {
    planes.r[i] = pixels[3 * i];
    planes.g[i] = pixels[3 * i + 1];
    planes.b[i] = pixels[3 * i + 2];
  }
}

inline void join(const std::uint8_t* r, const std::uint8_t* g, const std::uint8_t* b, std::size_t count,
                 std::uint8_t* pixels) {
  for (std::size_t i = 0; i < count; ++i) {
    pixels[3 * i] = r[i];
    pixels[3 * i + 1] = g[i];
    pixels[3 * i + 2] = b[i];
  }
}

/// `function(pixels, count)` for one part of an RGB image after another.
template <typename Function>
inline void for_parts(Bytes rgb, Function function) {
  for (std::size_t i = 0; i < rgb.size(); i += 3 * Planes::kSize) {
    function(rgb.data() + i, std::min(Planes::kSize, (rgb.size() - i) / 3));
  }
}

COSUB_VECTOR_CLONES void grayscale_rgb(Bytes rgb) {
  Planes planes;
  for_parts(rgb, [&](std::uint8_t* pixels, std::size_t count) {
    split(pixels, count, planes);
    for (std::size_t i = 0; i < count; ++i) planes.r[i] = luma(planes.r[i], planes.g[i], planes.b[i]);
    join(planes.r, planes.r, planes.r, count, pixels);
  });
}

COSUB_VECTOR_CLONES void color_rgb(Bytes rgb, float factor) {
  Planes planes;
  for_parts(rgb, [&](std::uint8_t* pixels, std::size_t count) {
    split(pixels, count, planes);
    for (std::size_t i = 0; i < count; ++i) {
      const int gray = luma(planes.r[i], planes.g[i], planes.b[i]);
      planes.r[i] = blend(gray, planes.r[i], factor);
      planes.g[i] = blend(gray, planes.g[i], factor);
      planes.b[i] = blend(gray, planes.b[i], factor);
    }
    join(planes.r, planes.g, planes.b, count, pixels);
  });
}

COSUB_VECTOR_CLONES std::int64_t sum_luma_rgb(Bytes rgb) {
  Planes planes;
  std::int64_t sum = 0;
  for_parts(rgb, [&](std::uint8_t* pixels, std::size_t count) {
    split(pixels, count, planes);
    std::uint32_t part = 0;
    for (std::size_t i = 0; i < count; ++i) part += luma(planes.r[i], planes.g[i], planes.b[i]);
    sum += part;
  });
  return sum;
}

COSUB_VECTOR_CLONES std::int64_t sum_bytes(Bytes bytes) {
  std::int64_t sum = 0;
  for (const std::uint8_t value : bytes) sum += value;
  return sum;
}

/// Every value blended with one.
COSUB_VECTOR_CLONES void blend_bytes(int from, float factor, Bytes bytes) {
  for (std::uint8_t& value : bytes) value = blend(from, value, factor);
}

/// One row of the image blended with ImageFilter.SMOOTH of it: of 13 parts, 5 are the pixel's and 1 each of
/// its eight neighbours, rounded.
COSUB_VECTOR_CLONES void sharpen_row(const std::uint8_t* above, const std::uint8_t* here,
                                     const std::uint8_t* below, std::int64_t size, std::int64_t step,
                                     float factor, std::uint8_t* out) {
  constexpr std::uint32_t kThirteenth = 5042;  // of 2^16: exact for numerators up to 13 * 255
  for (std::int64_t i = step; i < size - step; ++i) {
    const auto left = static_cast<std::uint16_t>(above[i - step] + here[i - step] + below[i - step]);
    const auto middle = static_cast<std::uint16_t>(above[i] + 5 * here[i] + below[i]);
    const auto right = static_cast<std::uint16_t>(above[i + step] + here[i + step] + below[i + step]);
    const auto parts = static_cast<std::uint16_t>(left + middle + right + 6);
    const int smooth = static_cast<std::uint16_t>((parts * kThirteenth) >> 16);
    out[i] = blend(smooth, here[i], factor);
  }
}

}  // namespace

void grayscale(Image& image) {
  if (image.channels == 3) grayscale_rgb(bytes_of(image));
}

void adjust_brightness(Image& image, double factor) {
  blend_bytes(0, clamped(factor), bytes_of(image));
}

void adjust_contrast(Image& image, double factor) {
  const std::int64_t sum = image.channels == 1 ? sum_bytes(bytes_of(image)) : sum_luma_rgb(bytes_of(image));
  const auto count = static_cast<double>(image.height * image.width);
  const int mean = static_cast<int>(static_cast<double>(sum) / count + 0.5);
  blend_bytes(mean, clamped(factor), bytes_of(image));
}

void adjust_color(Image& image, double factor) {
  if (image.channels == 3) color_rgb(bytes_of(image), clamped(factor));
}

void adjust_sharpness(Image& image, double factor, Image& scratch) {
  scratch.reshape(image.height, image.width, image.channels);
  std::copy(image.row(0), image.row(image.height), scratch.row(0));
  // The outermost pixels have no neighbours: the filter leaves them alone, and so does blending.
  for (std::int64_t y = 1; y < image.height - 1; ++y) {
    sharpen_row(scratch.row(y - 1), scratch.row(y), scratch.row(y + 1), image.row_bytes(), image.channels,
                clamped(factor), image.row(y));
  }
}

}  // namespace cosub::data
