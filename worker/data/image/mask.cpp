#include "worker/data/image/mask.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "common/error.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/png_reader.h"

namespace cosub::data {
namespace {

void check_is_png(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kNameBytes =
      4;  // the rest of the signature is libpng's to judge: it says what it lost
  if (bytes.size() >= kNameBytes && png_sig_cmp(bytes.data(), 0, kNameBytes) == 0) return;
  throw DataError(fmt::format("a mask is a PNG of class numbers; this is {}", looks_like(bytes)));
}

void check_holds_class_numbers(const PngReader& reader) {
  std::string_view found;
  switch (reader.color_type()) {
    case PNG_COLOR_TYPE_GRAY:
    case PNG_COLOR_TYPE_PALETTE:
      return;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
      found = "greyscale with alpha";
      break;
    case PNG_COLOR_TYPE_RGB:
      found = "RGB";
      break;
    default:
      found = "RGB with alpha";
  }
  throw DataError(
      fmt::format("a PNG in {}, {} bits a channel, is no mask: expected is one class number per pixel, as "
                  "greyscale of 1 to 16 bits or as a palette's index. Convert colours to class numbers first",
                  found, reader.bit_depth()));
}

}  // namespace

void decode_mask(std::span<const std::uint8_t> bytes, Mask& out) {
  check_is_png(bytes);
  read_info(bytes);  // has the limit on sizes
  PngReader reader(bytes);
  check_holds_class_numbers(reader);
  const bool is_wide = reader.bit_depth() == 16;
  const PngPixels pixels = reader.read_pixels(png_set_packing);  // small samples to a byte each
  out.reshape(reader.height(), reader.width());
  std::uint16_t* to = out.values.data();
  for (std::int64_t i = 0; i < out.size(); ++i) {
    to[i] = is_wide ? static_cast<std::uint16_t>(pixels.bytes[2 * i] << 8 | pixels.bytes[2 * i + 1])
                    : pixels.bytes[i];
  }
}

}  // namespace cosub::data
