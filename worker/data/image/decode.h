// Encoded image files to pixels: JPEG (libjpeg-turbo), PNG (libpng), PPM and PGM. All functions are pure and
// run on the calling thread; pixels are those that Pillow's Image.open(...).convert("RGB" or "L") gives, but
// of 16-bit grey PNG: there the upper bytes, where Pillow clips at 255.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "worker/data/image/image.h"

namespace cosub::data {

enum class ImageFormat { kJpeg, kPng, kPnm };

struct ImageInfo {
  ImageFormat format = ImageFormat::kJpeg;
  std::int64_t height = 0, width = 0;
  /// As stored: 1 grey, 2 grey and alpha, 3 colour (a palette too), 4 colour and alpha, CMYK.
  int channels = 0;
  std::int64_t decoded_channels() const { return channels < 3 ? 1 : 3; }  // without loss: alpha never counts
};

/// More pixels are refused before memory is asked for (a decompression bomb); Pillow's limit.
inline constexpr std::int64_t kMaxPixels = 178'956'970;

/// So are longer sides (libpng's default limit): resizing needs memory for each pixel of a side, many times
/// its own.
inline constexpr std::int64_t kMaxSide = 1'000'000;

/// What the header says. DataError (without the file's name) when the bytes are no such image, are empty, or
/// announce more than kMaxPixels or kMaxSide.
ImageInfo read_info(std::span<const std::uint8_t> bytes);

/// The region's pixels with `channels` (1 or 3) channels: equal to the bit to that part of the whole image,
/// though of a JPEG only the region's blocks are transformed. They depend on these bytes alone. DataError
/// when the data are damaged or cut short, wherever in the file that is, or made to take for ever (a JPEG of
/// more than 500 scans); a region outside the image is a std::logic_error.
void decode(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels, Image& out);

/// Whether any decoder of common JPEGs shows the same picture, but for rounding and the interpolation of the
/// colours: Huffman coded, not progressive, 8 bits, grey or YCbCr, with an end marker. Everything else, other
/// formats and what the limits above refuse included, is false; decode() tells why.
bool is_plain_jpeg(std::span<const std::uint8_t> bytes);

/// What the bytes look like, for messages, such as "a GIF": most "broken" images are something else.
std::string looks_like(std::span<const std::uint8_t> bytes);

/// One of each format, for decode(): the region lies inside the image.
void decode_jpeg(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels,
                 Image& out);
void decode_png(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels, Image& out);
void decode_pnm(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels, Image& out);
ImageInfo read_jpeg_info(std::span<const std::uint8_t> bytes);
ImageInfo read_png_info(std::span<const std::uint8_t> bytes);
ImageInfo read_pnm_info(std::span<const std::uint8_t> bytes);

}  // namespace cosub::data
