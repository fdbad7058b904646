// Anti-aliased resizing of 8-bit images by LibTorch's own kernel, on the calling thread alone.
#pragma once

#include "common/config/pipeline.h"
#include "worker/data/image/image.h"

namespace cosub::data {

/// As Pillow 13's Image.resize, within one level: LibTorch's kernel (torchvision's resize(antialias=True) of
/// uint8 tensors) with Pillow's choice of which direction is first. An image of that size already is copied.
void resize(const Image& image, std::int64_t height, std::int64_t width, config::Interpolation interpolation,
            Image& out);

/// The shorter side becomes `shorter`; the other one follows in proportion, rounded down, as torchvision's
/// Resize(shorter) does it. DataError (without the image's name) when that would be more than kMaxPixels: a
/// line of pixels of a few hundred bytes becomes one of gigabytes.
void resize_shorter(const Image& image, std::int64_t shorter, config::Interpolation interpolation,
                    Image& out);

}  // namespace cosub::data
