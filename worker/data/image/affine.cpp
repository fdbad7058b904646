#include "worker/data/image/affine.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "common/vector_clones.h"
#include "worker/data/image/interpolate.h"

namespace cosub::data {
namespace {

/// The points of the image that one row of the result shows.
COSUB_VECTOR_CLONES void map_row(const AffineMap& map, double y_out, std::int64_t width, double* x,
                                 double* y) {
  for (std::int32_t column = 0; column < width; ++column) {
    const double x_out = column + 0.5;
    x[column] = map.a * x_out + map.b * y_out + map.c;
    y[column] = map.d * x_out + map.e * y_out + map.f;
  }
}

void fill(const Warp& warp, std::int64_t channels, std::int64_t count, std::uint8_t* to) {
  if (channels == 1) {
    std::fill_n(to, count, warp.fill[0]);
    return;
  }
  const auto [r, g, b] = warp.fill;
  for (std::int64_t i = 0; i < count; ++i, to += 3) {
    to[0] = r;
    to[1] = g;
    to[2] = b;
  }
}

/// What one thread keeps for one image after another.
struct AffineBuffers {
  BorderedPixels pixels;
  std::vector<double> x, y;
};

/// Python's round(value, 15), decimal as that: what is left of cos(90 degrees) shall not move pixels.
double rounded(double value) {
  const std::string text = fmt::format("{:.15f}", value);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

void transform(Image& image, const AffineMap& map, const Warp& warp, Image& scratch) {
  thread_local AffineBuffers buffers;
  std::vector<double>&x = buffers.x, &y = buffers.y;
  const std::int64_t width = image.width, channels = image.channels;
  buffers.pixels.assign(image);
  x.resize(width);
  y.resize(width);
  scratch.reshape(image.height, width, channels);
  const auto is_inside = [&](std::int64_t column) {
    return x[column] >= 0 && x[column] < static_cast<double>(width) && y[column] >= 0 &&
           y[column] < static_cast<double>(image.height);
  };
  for (std::int64_t row = 0; row < image.height; ++row) {
    map_row(map, static_cast<double>(row) + 0.5, width, x.data(), y.data());
    // Coordinates rise or fall along a row: what is inside is in one piece.
    std::int64_t begin = 0, end = width;
    while (begin < end && !is_inside(begin)) ++begin;
    while (begin < end && !is_inside(end - 1)) --end;
    std::uint8_t* to = scratch.row(row);
    const auto count = static_cast<std::size_t>(end - begin);
    fill(warp, channels, begin, to);
    interpolate(buffers.pixels, warp.resampling, {{x.data() + begin, count}, {y.data() + begin, count}},
                to + begin * channels);
    fill(warp, channels, width - end, to + end * channels);
  }
  std::swap(image, scratch);
}

void shear_x(Image& image, double factor, const Warp& warp, Image& scratch) {
  transform(image, {.b = factor}, warp, scratch);
}

void shear_y(Image& image, double factor, const Warp& warp, Image& scratch) {
  transform(image, {.d = factor}, warp, scratch);
}

void translate_x(Image& image, double share, const Warp& warp, Image& scratch) {
  transform(image, {.c = share * static_cast<double>(image.width)}, warp, scratch);
}

void translate_y(Image& image, double share, const Warp& warp, Image& scratch) {
  transform(image, {.f = share * static_cast<double>(image.height)}, warp, scratch);
}

void rotate(Image& image, double degrees, const Warp& warp, Image& scratch) {
  double positive = std::fmod(degrees, 360);  // as Python's %
  if (positive < 0) positive += 360;
  if (positive == 0) return;
  const double angle = -(positive * (std::numbers::pi / 180));
  const double cosine = rounded(std::cos(angle)), sine = rounded(std::sin(angle));
  const double x = static_cast<double>(image.width) / 2, y = static_cast<double>(image.height) / 2;
  const AffineMap map{.a = cosine,
                      .b = sine,
                      .c = cosine * -x + sine * -y + x,
                      .d = -sine,
                      .e = cosine,
                      .f = -sine * -x + cosine * -y + y};
  transform(image, map, warp, scratch);
}

}  // namespace cosub::data
