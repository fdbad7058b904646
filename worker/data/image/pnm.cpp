#include <fmt/format.h>

#include "common/error.h"
#include "worker/data/image/convert.h"
#include "worker/data/image/decode.h"

// Netpbm's binary formats: "P5" (grey) or "P6" (RGB), width, height and 255 in decimal, separated by white
// space and comments from # to the end of the line, one white space character, then the pixels.
namespace cosub::data {
namespace {

struct Header {
  std::int64_t channels = 0, width = 0, height = 0;
  std::size_t pixels_at = 0;
};

bool is_space(std::uint8_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

std::int64_t read_number(std::span<const std::uint8_t> bytes, std::size_t& at) {
  while (at < bytes.size() && (is_space(bytes[at]) || bytes[at] == '#')) {
    if (bytes[at] == '#') {
      while (at < bytes.size() && bytes[at] != '\n') ++at;
    } else {
      ++at;
    }
  }
  std::int64_t number = 0;
  const std::size_t first = at;
  while (at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9' && at - first < 9) {
    number = number * 10 + (bytes[at++] - '0');
  }
  if (at == first) throw DataError("PPM/PGM: the header has no width, height and maximum");
  return number;
}

Header read_header(std::span<const std::uint8_t> bytes) {
  Header header;
  header.channels = bytes[1] == '6' ? 3 : 1;
  std::size_t at = 2;
  header.width = read_number(bytes, at);
  header.height = read_number(bytes, at);
  const std::int64_t maximum = read_number(bytes, at);
  if (maximum != 255) throw DataError(fmt::format("PPM/PGM: maximum {}; only 255 is supported", maximum));
  if (at >= bytes.size() || !is_space(bytes[at])) throw DataError("PPM/PGM: the header does not end");
  header.pixels_at = at + 1;
  return header;
}

}  // namespace

ImageInfo read_pnm_info(std::span<const std::uint8_t> bytes) {
  const Header header = read_header(bytes);
  return {ImageFormat::kPnm, header.height, header.width, static_cast<int>(header.channels)};
}

void decode_pnm(std::span<const std::uint8_t> bytes, const Region& region, std::int64_t channels,
                Image& out) {
  const Header header = read_header(bytes);
  const std::size_t row_bytes = header.width * header.channels, needed = header.height * row_bytes;
  if (bytes.size() - header.pixels_at < needed) {
    throw DataError(fmt::format("PPM/PGM: cut short: {} of {} bytes of pixels are there",
                                bytes.size() - header.pixels_at, needed));
  }
  out.reshape(region.height, region.width, channels);
  for (std::int64_t y = 0; y < region.height; ++y) {
    const std::uint8_t* from = bytes.data() + header.pixels_at + (region.top + y) * row_bytes;
    convert_row(from + region.left * header.channels, header.channels, region.width, channels, out.row(y));
  }
}

}  // namespace cosub::data
