// Geometric operations as Pillow's Image.transform(AFFINE) and Image.rotate compute them, to the bit: the
// image keeps its size, what comes from outside of it has the fill colour. On the calling thread; `scratch`
// is the caller's buffer: it takes any shape and content.
#pragma once

#include <array>
#include <cstdint>

#include "worker/data/image/image.h"

namespace cosub::data {

enum class Resampling { kBilinear, kBicubic };

/// How pixels between pixels are made, and the colour outside the image (1 or 3 values of it are used).
struct Warp {
  Resampling resampling = Resampling::kBicubic;
  std::array<std::uint8_t, 3> fill{128, 128, 128};
};

/// The result at (x, y) is the image at (a x + b y + c, d x + e y + f), for pixels' centres.
struct AffineMap {
  double a = 1, b = 0, c = 0, d = 0, e = 1, f = 0;
};
void transform(Image& image, const AffineMap& map, const Warp& warp, Image& scratch);

// timm's ops of these names.
void shear_x(Image& image, double factor, const Warp& warp, Image& scratch);
void shear_y(Image& image, double factor, const Warp& warp, Image& scratch);
void translate_x(Image& image, double share, const Warp& warp, Image& scratch);  // of the width
void translate_y(Image& image, double share, const Warp& warp, Image& scratch);  // of the height
/// Counter-clockwise around the centre, by any angle.
void rotate(Image& image, double degrees, const Warp& warp, Image& scratch);

}  // namespace cosub::data
