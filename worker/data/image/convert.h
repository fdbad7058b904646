// Conversions between the pixels that decoders give and those of an Image, as Pillow computes them.
#pragma once

#include <cstdint>
#include <cstring>

namespace cosub::data {

/// ITU-R 601-2 luma in Pillow's fixed point.
inline std::uint8_t luma(std::uint8_t r, std::uint8_t g, std::uint8_t b) {
  return static_cast<std::uint8_t>((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
}

/// One row of `width` pixels of `from_channels` (1: grey, 3: RGB) to `to_channels` (1 or 3).
inline void convert_row(const std::uint8_t* from, std::int64_t from_channels, std::int64_t width,
                        std::int64_t to_channels, std::uint8_t* to) {
  if (from_channels == to_channels) {
    std::memcpy(to, from, static_cast<std::size_t>(width * to_channels));
  } else if (to_channels == 1) {
    for (std::int64_t x = 0; x < width; ++x) to[x] = luma(from[3 * x], from[3 * x + 1], from[3 * x + 2]);
  } else {
    for (std::int64_t x = 0; x < width; ++x) to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = from[x];
  }
}

}  // namespace cosub::data
