// Operations on the values of pixels, equal to Pillow's of the same name to the bit. All change 8-bit images
// of 1 or 3 channels in place, on the calling thread; none fails. `scratch` is the caller's buffer: it takes
// any shape and content.
#pragma once

#include <array>
#include <cstdint>

#include "worker/data/image/image.h"

namespace cosub::data {

// ImageOps and Image.point, channel by channel.
void invert(Image& image);
void solarize(Image& image, int threshold);  // values from the threshold up are inverted
/// Values below the threshold grow by `added`, up to 255; both are 0 to 255. (timm's, not Pillow's.)
void solarize_add(Image& image, int added, int threshold);
void posterize(Image& image,
               int bits);         // keeps the highest 0 to 8 bits; 0, which Pillow refuses, gives black
void equalize(Image& image);      // flat histogram
void autocontrast(Image& image);  // smallest value to 0, largest to 255

/// convert("L"), kept in as many channels as the image has (torchvision's Grayscale).
void grayscale(Image& image);

// ImageEnhance: the image blended with a duller one; factor 0 is that, 1 the image, above 1 exaggerates.
void adjust_brightness(Image& image, double factor);                 // black
void adjust_contrast(Image& image, double factor);                   // the mean luma, rounded
void adjust_color(Image& image, double factor);                      // the greyscale image
void adjust_sharpness(Image& image, double factor, Image& scratch);  // ImageFilter.SMOOTH of it

/// ImageFilter.GaussianBlur: three extended box filters a direction (Gwosdek et al., SSVM 2011). sigma >= 0,
/// in pixels.
void gaussian_blur(Image& image, double sigma, Image& scratch);

}  // namespace cosub::data
