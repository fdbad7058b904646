// Conversions between the pixels that decoders give and those of an Image, as Pillow computes them.
#pragma once

#include <cstdint>

namespace cosub::data {

/// ITU-R 601-2 luma in Pillow's fixed point.
inline std::uint8_t luma(std::uint8_t r, std::uint8_t g, std::uint8_t b) {
  return static_cast<std::uint8_t>((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
}

/// One row of `width` pixels of `from_channels` (1: grey, 3: RGB) to `to_channels` (1 or 3).
inline void convert_row(const std::uint8_t* from, std::int64_t from_channels, std::int64_t width,
                        std::int64_t to_channels, std::uint8_t* to) {
  for (std::int64_t x = 0; x < width; ++x) {
    const std::uint8_t* in = from + x * from_channels;
    if (from_channels == to_channels) {
      for (std::int64_t c = 0; c < to_channels; ++c) to[x * to_channels + c] = in[c];
    } else if (to_channels == 1) {
      to[x] = luma(in[0], in[1], in[2]);
    } else {
      to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = in[0];
    }
  }
}

}  // namespace cosub::data
