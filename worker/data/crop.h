// Windows of an image and its mirror image: exact copies of pixels, on the calling thread.
#pragma once

#include "worker/data/image/image.h"

namespace cosub::data {

enum class Padding { kZero, kReflect };  // as torchvision's padding_mode constant (0) and reflect

/// The window of `window.height` x `window.width` whose corner lies at (window.top, window.left) of the
/// image; what lies outside it is padding. Reflected padding reaches at most height - 1 rows and width - 1
/// columns.
void crop(const Image& image, const Region& window, Padding padding, Image& out);

/// Columns in reverse order, in place.
void flip_horizontally(Image& image);

}  // namespace cosub::data
