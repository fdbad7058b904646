#include "worker/data/image/convert.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/png_reader.h"

namespace cosub::data {

ImageInfo read_png_info(std::span<const std::uint8_t> bytes) {
  const PngReader reader(bytes);
  const int channels = reader.color_type() == PNG_COLOR_TYPE_PALETTE ? 3 : reader.channels();
  return {ImageFormat::kPng, reader.height(), reader.width(), channels};
}

/// Everything to 8-bit grey or RGB without alpha; gamma is left alone, as Pillow leaves it.
void decode_png(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels,
                Image& out) {
  const PngPixels whole = PngReader(bytes).read_pixels([](png_structp png) {
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
  });
  out.reshape(region.height, region.width, channels);
  for (std::int64_t y = 0; y < region.height; ++y) {
    convert_row(whole.row(region.top + y) + region.left * whole.channels, whole.channels, region.width,
                channels, out.row(y));
  }
}

}  // namespace cosub::data
