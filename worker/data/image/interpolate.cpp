#include "worker/data/image/interpolate.h"

#include <algorithm>
#include <cmath>

#include "common/vector_clones.h"

namespace cosub::data {
namespace {

COSUB_VECTOR_CLONES void widen_rgb(const std::uint8_t* rgb, std::int64_t count, std::uint32_t* pixels) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t r = rgb[3 * i], g = rgb[3 * i + 1], b = rgb[3 * i + 2];
    pixels[i] = r | g << 8 | b << 16;
  }
}

double between(const double* values, std::integral_constant<int, 2>, double at) {
  return values[0] + (values[1] - values[0]) * at;
}

/// Cubic convolution with a = -1, in Pillow's order of operations.
double between(const double* values, std::integral_constant<int, 4>, double at) {
  const double linear = -values[0] + values[2];
  const double square = 2 * (values[0] - values[1]) + values[2] - values[3];
  const double cubic = -values[0] + values[1] - values[2] + values[3];
  return values[1] + at * (linear + at * (square + at * cubic));
}

template <int Taps>
void interpolate_point(const BorderedPixels& pixels, double x, double y, std::uint8_t* out) {
  constexpr std::integral_constant<int, Taps> kTaps;
  constexpr int kFirst = Taps == 2 ? 1 : 0;  // of the 4 x 4 pixels
  const double left = std::floor(x - 0.5), top = std::floor(y - 0.5);
  const double dx = x - 0.5 - left, dy = y - 0.5 - top;
  const std::uint32_t* corner =
      pixels.around(static_cast<std::int64_t>(top), static_cast<std::int64_t>(left)) +
      kFirst * (pixels.stride() + 1);
  const auto row_at = [&](int row, int shift) {
    double values[Taps];
    for (int i = 0; i < Taps; ++i) values[i] = corner[row * pixels.stride() + i] >> shift & 255;
    return between(values, kTaps, dx);
  };
  for (std::int64_t c = 0; c < pixels.channels(); ++c) {
    const int shift = static_cast<int>(8 * c);
    double lines[Taps];
    if (dy == 0) {  // shears and translations along rows: the others would be multiplied by zero
      lines[0] = row_at(1 - kFirst, shift);
    } else {
      for (int j = 0; j < Taps; ++j) lines[j] = row_at(j, shift);
      lines[0] = between(lines, kTaps, dy);
    }
    out[c] = static_cast<std::uint8_t>(std::clamp(lines[0], 0.0, 255.0));
  }
}

}  // namespace

void BorderedPixels::assign(const Image& image) {
  channels_ = image.channels;
  stride_ = image.width + 2 * kBorder;
  pixels_.resize(static_cast<std::size_t>(stride_ * (image.height + 2 * kBorder)));
  const auto row = [&](std::int64_t y) { return pixels_.data() + (y + kBorder) * stride_; };
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint32_t* first = row(y) + kBorder;
    if (channels_ == 3) {
      widen_rgb(image.row(y), image.width, first);
    } else {
      std::copy_n(image.row(y), image.width, first);
    }
    std::fill_n(row(y), kBorder, first[0]);
    std::fill_n(first + image.width, kBorder, first[image.width - 1]);
  }
  for (std::int64_t k = 1; k <= kBorder; ++k) {
    std::copy_n(row(0), stride_, row(-k));
    std::copy_n(row(image.height - 1), stride_, row(image.height - 1 + k));
  }
}

void interpolate_exactly(const BorderedPixels& pixels, Resampling resampling, double x, double y,
                         std::uint8_t* out) {
  if (resampling == Resampling::kBilinear) {
    interpolate_point<2>(pixels, x, y, out);
  } else {
    interpolate_point<4>(pixels, x, y, out);
  }
}

void interpolate(const BorderedPixels& pixels, Resampling resampling, const Points& points,
                 std::uint8_t* out) {
  static const bool fast = has_fast_interpolation();
  if (fast) return interpolate_fast(pixels, resampling, points, out);
  for (std::size_t i = 0; i < points.x.size(); ++i, out += pixels.channels()) {
    interpolate_exactly(pixels, resampling, points.x[i], points.y[i], out);
  }
}

}  // namespace cosub::data
