// Pixels between pixels, as Pillow's transform computes them: to the bit, at the cost of single precision.
// Internal to this folder. On the calling thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/data/image/affine.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// An image with its outermost pixels repeated kBorder times on each side, a pixel in 32 bits: the channels
/// from the lowest byte up. What an interpolation reads around a point inside is there without a test.
class BorderedPixels {
 public:
  static constexpr std::int64_t kBorder = 2;

  void assign(const Image& image);

  std::int64_t channels() const { return channels_; }
  std::int64_t stride() const { return stride_; }  // of a row, in pixels
  /// The first of 4 x 4 pixels: (top - 1, left - 1) of the image; left and top are -1 or more.
  const std::uint32_t* around(std::int64_t top, std::int64_t left) const {
    return pixels_.data() + offset(top, left);
  }
  std::int64_t offset(std::int64_t top, std::int64_t left) const { return (top + 1) * stride_ + left + 1; }

 private:
  std::vector<std::uint32_t> pixels_;
  std::int64_t stride_ = 0, channels_ = 0;
};

/// Points inside an image, [0, width) x [0, height), a pixel's centre at a half.
struct Points {
  std::span<const double> x, y;  // one size
};

/// The pixels at the points, channels interleaved, to `out`.
void interpolate(const BorderedPixels& pixels, Resampling resampling, const Points& points,
                 std::uint8_t* out);

// The two ways that interpolate() goes.

/// In double precision and Pillow's order of operations, one point.
void interpolate_exactly(const BorderedPixels& pixels, Resampling resampling, double x, double y,
                         std::uint8_t* out);

/// In single precision with a bound on its error: what the error could change is interpolated exactly.
/// Only where has_fast_interpolation().
void interpolate_fast(const BorderedPixels& pixels, Resampling resampling, const Points& points,
                      std::uint8_t* out);
bool has_fast_interpolation();  // AVX2 and FMA

}  // namespace cosub::data
