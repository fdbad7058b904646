#include "worker/data/image/photometric.h"

#include <algorithm>
#include <numeric>

#include "worker/data/image/convert.h"

namespace cosub::data {
namespace {

using Table = std::array<std::uint8_t, 256>;
using Histogram = std::array<std::int64_t, 256>;

std::uint8_t clamped(std::int64_t value) {
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(value, 0, 255));
}

template <typename Function>
Table make_table(Function function) {
  Table table;
  for (int value = 0; value < 256; ++value) table[value] = clamped(function(value));
  return table;
}

void apply(const Table& table, Image& image) {
  std::uint8_t* pixels = image.row(0);
  for (std::int64_t i = 0; i < image.height * image.row_bytes(); ++i) pixels[i] = table[pixels[i]];
}

/// `make`: Histogram -> Table, called for every channel.
template <typename Make>
void apply_by_histogram(Image& image, Make make) {
  std::array<Histogram, 3> counts{};
  std::array<Table, 3> tables;
  const std::int64_t channels = image.channels, size = image.height * image.row_bytes();
  std::uint8_t* pixels = image.row(0);
  for (std::int64_t i = 0; i < size; i += channels) {
    for (std::int64_t c = 0; c < channels; ++c) ++counts[c][pixels[i + c]];
  }
  for (std::int64_t c = 0; c < channels; ++c) tables[c] = make(counts[c]);
  for (std::int64_t i = 0; i < size; i += channels) {
    for (std::int64_t c = 0; c < channels; ++c) pixels[i + c] = tables[c][pixels[i + c]];
  }
}

Table equalizing(const Histogram& counts) {
  const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  const auto last = std::find_if(counts.rbegin(), counts.rend(), [](std::int64_t n) { return n > 0; });
  const std::int64_t step = (total - *last) / 255;
  if (step == 0) return make_table([](int value) { return value; });
  std::int64_t below = step / 2;
  return make_table([&](int value) {
    const std::int64_t result = below / step;
    below += counts[value];
    return result;
  });
}

Table stretching(const Histogram& counts) {
  int low = 0, high = 255;
  while (low < 255 && counts[low] == 0) ++low;
  while (high > 0 && counts[high] == 0) --high;
  if (high <= low) return make_table([](int value) { return value; });
  const double scale = 255.0 / (high - low), offset = -low * scale;
  return make_table([&](int value) { return static_cast<std::int64_t>(value * scale + offset); });
}

/// Image.blend: single precision, the fraction cut off.
std::uint8_t blend(int from, int to, float factor) {
  const float value = static_cast<float>(from) + factor * static_cast<float>(to - from);
  return static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

std::uint8_t luma_at(const Image& image, const std::uint8_t* pixel) {
  return image.channels == 1 ? *pixel : luma(pixel[0], pixel[1], pixel[2]);
}

}  // namespace

void invert(Image& image) {
  apply(make_table([](int value) { return 255 - value; }), image);
}

void solarize(Image& image, int threshold) {
  apply(make_table([&](int value) { return value < threshold ? value : 255 - value; }), image);
}

void solarize_add(Image& image, int added, int threshold) {
  apply(make_table([&](int value) { return value < threshold ? value + added : value; }), image);
}

void posterize(Image& image, int bits) {
  apply(make_table([&](int value) { return value & ~((1 << (8 - bits)) - 1); }), image);
}

void equalize(Image& image) {
  apply_by_histogram(image, equalizing);
}

void autocontrast(Image& image) {
  apply_by_histogram(image, stretching);
}

void grayscale(Image& image) {
  if (image.channels == 1) return;
  std::uint8_t* pixel = image.row(0);
  for (std::int64_t i = 0; i < image.height * image.width; ++i, pixel += 3) {
    pixel[0] = pixel[1] = pixel[2] = luma(pixel[0], pixel[1], pixel[2]);
  }
}

void adjust_brightness(Image& image, double factor) {
  apply(make_table([&](int value) { return blend(0, value, static_cast<float>(factor)); }), image);
}

void adjust_contrast(Image& image, double factor) {
  const std::int64_t count = image.height * image.width;
  std::int64_t sum = 0;
  const std::uint8_t* pixel = image.row(0);
  for (std::int64_t i = 0; i < count; ++i, pixel += image.channels) sum += luma_at(image, pixel);
  const int mean = static_cast<int>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
  apply(make_table([&](int value) { return blend(mean, value, static_cast<float>(factor)); }), image);
}

void adjust_color(Image& image, double factor) {
  if (image.channels == 1) return;
  const auto alpha = static_cast<float>(factor);
  std::uint8_t* pixel = image.row(0);
  for (std::int64_t i = 0; i < image.height * image.width; ++i, pixel += 3) {
    const int gray = luma(pixel[0], pixel[1], pixel[2]);
    for (int c = 0; c < 3; ++c) pixel[c] = blend(gray, pixel[c], alpha);
  }
}

void adjust_sharpness(Image& image, double factor, Image& scratch) {
  const auto alpha = static_cast<float>(factor);
  scratch.reshape(image.height, image.width, image.channels);
  std::copy(image.row(0), image.row(image.height), scratch.row(0));
  const std::int64_t step = image.channels;
  // The outermost pixels have no neighbours: the filter leaves them alone, and so does blending.
  for (std::int64_t y = 1; y < image.height - 1; ++y) {
    const std::uint8_t *above = scratch.row(y - 1), *here = scratch.row(y), *below = scratch.row(y + 1);
    std::uint8_t* out = image.row(y);
    for (std::int64_t i = step; i < image.row_bytes() - step; ++i) {
      const int around = above[i - step] + above[i] + above[i + step] + here[i - step] + here[i + step] +
                         below[i - step] + below[i] + below[i + step];
      const int smooth = (2 * (around + 5 * here[i]) + 13) / 26;  // of 13 parts, rounded
      out[i] = blend(smooth, here[i], alpha);
    }
  }
}

}  // namespace cosub::data
