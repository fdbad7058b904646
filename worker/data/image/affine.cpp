#include "worker/data/image/affine.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace cosub::data {
namespace {

double interpolate(const double* values, std::integral_constant<int, 2>, double at) {
  return values[0] + (values[1] - values[0]) * at;
}

/// Cubic convolution with a = -1, in Pillow's order of operations.
double interpolate(const double* values, std::integral_constant<int, 4>, double at) {
  const double linear = -values[0] + values[2];
  const double square = 2 * (values[0] - values[1]) + values[2] - values[3];
  const double cubic = -values[0] + values[1] - values[2] + values[3];
  return values[1] + at * (linear + at * (square + at * cubic));
}

/// One pixel from Taps x Taps pixels around (x, y), beyond the border the nearest ones.
template <int Taps>
void sample(const Image& image, double x, double y, std::uint8_t* out) {
  constexpr std::integral_constant<int, Taps> kTaps;
  const double left = std::floor(x - 0.5), top = std::floor(y - 0.5);
  const double dx = x - 0.5 - left, dy = y - 0.5 - top;
  std::int64_t columns[Taps];
  const std::uint8_t* rows[Taps];
  for (int i = 0; i < Taps; ++i) {
    const std::int64_t shift = i - (Taps / 2 - 1);
    columns[i] = std::clamp<std::int64_t>(static_cast<std::int64_t>(left) + shift, 0, image.width - 1) *
                 image.channels;
    rows[i] =
        image.row(std::clamp<std::int64_t>(static_cast<std::int64_t>(top) + shift, 0, image.height - 1));
  }
  for (std::int64_t c = 0; c < image.channels; ++c) {
    double lines[Taps];
    for (int j = 0; j < Taps; ++j) {
      double values[Taps];
      for (int i = 0; i < Taps; ++i) values[i] = rows[j][columns[i] + c];
      lines[j] = interpolate(values, kTaps, dx);
    }
    out[c] = static_cast<std::uint8_t>(std::clamp(interpolate(lines, kTaps, dy), 0.0, 255.0));
  }
}

template <int Taps>
void transform_with(const Image& image, const AffineMap& map, const Warp& warp, Image& out) {
  const auto width = static_cast<double>(image.width), height = static_cast<double>(image.height);
  for (std::int64_t row = 0; row < image.height; ++row) {
    std::uint8_t* to = out.row(row);
    const double y_out = static_cast<double>(row) + 0.5;
    for (std::int64_t column = 0; column < image.width; ++column, to += image.channels) {
      const double x_out = static_cast<double>(column) + 0.5;
      const double x = map.a * x_out + map.b * y_out + map.c;
      const double y = map.d * x_out + map.e * y_out + map.f;
      if (x >= 0 && x < width && y >= 0 && y < height) {
        sample<Taps>(image, x, y, to);
      } else {
        std::copy_n(warp.fill.begin(), image.channels, to);
      }
    }
  }
}

/// Python's round(value, 15): what is left of cos(90 degrees) shall not move pixels.
double rounded(double value) {
  return std::nearbyint(value * 1e15) / 1e15;
}

}  // namespace

void transform(Image& image, const AffineMap& map, const Warp& warp, Image& scratch) {
  scratch.reshape(image.height, image.width, image.channels);
  if (warp.resampling == Resampling::kBilinear) {
    transform_with<2>(image, map, warp, scratch);
  } else {
    transform_with<4>(image, map, warp, scratch);
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
  if (degrees == 0) return;
  const double positive = degrees < 0 ? degrees + 360 : degrees;  // as Python's %
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
