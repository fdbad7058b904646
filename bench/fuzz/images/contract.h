// What read_info and decode promise about any bytes whatever, as a check for fuzzers.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <string>

#include "bench/fuzz/feedback.h"
#include "bench/fuzz/promise.h"
#include "common/error.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/convert.h"
#include "worker/data/image/decode.h"

namespace cosub::fuzz {

/// Larger images are not decoded here: they cost time and show nothing new.
constexpr std::int64_t kMostPixels = 1 << 13;

/// A refusal says in one readable line whose it is.
inline void check_message(std::string_view message) {
  static constexpr std::array<std::string_view, 6> kBeginnings = {
      "JPEG: ", "PNG: ", "PPM/PGM: ", "the header announces ", "the file is empty", "not a JPEG, "};
  const bool is_ours = std::any_of(kBeginnings.begin(), kBeginnings.end(),
                                   [&](std::string_view text) { return message.starts_with(text); });
  const bool is_line =
      std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (!is_ours || !is_line || message.size() < 10 || message.size() > 200) promise(false, message);
  tell(message);
}

/// False when it is refused. What `out` held must not show: the caller fills it.
inline bool try_decode(std::span<const std::uint8_t> bytes, const data::Region& region, std::int64_t channels,
                       std::uint8_t fill, data::Image& out) {
  // Memory of this size exactly: AddressSanitizer sees a byte too far.
  out.pixels.resize(static_cast<std::size_t>(region.height * region.width * channels), fill);
  try {
    data::decode(bytes, region, channels, out);
  } catch (const DataError& error) {
    check_message(error.what());
    return false;
  }
  promise(out.height == region.height && out.width == region.width && out.channels == channels,
          "another shape");
  return true;
}

/// What is accepted has a sane size, and each region is that part of the whole, in grey and in colour.
inline void check_image(std::span<const std::uint8_t> bytes) {
  data::ImageInfo info;
  try {
    info = data::read_info(bytes);
  } catch (const DataError& error) {
    return check_message(error.what());
  }
  promise(info.height >= 1 && info.width >= 1 && info.height <= data::kMaxPixels / info.width, "a size");
  if (info.height * info.width > kMostPixels) return;
  data::Image whole, out;
  const bool is_whole = try_decode(bytes, {0, 0, info.height, info.width}, 3, 0x55, whole);
  whole.height = info.height;  // also where decoding ended before it set them
  whole.width = info.width;
  KeyedRandom random(XXH3_64bits(bytes.data(), bytes.size()), Purpose::kTest, 0, 0);
  const data::Region region = data::testing::draw_region(whole, random);
  const std::int64_t channels = random.uniform_int(2) == 0 ? 1 : 3;
  const bool is_decoded = try_decode(bytes, region, channels, 0xaa, out);
  if (!is_whole) return;  // the damage may lie where the region does not look
  promise(is_decoded, "a region refused of an image that is taken whole");
  data::Image expected;
  expected.reshape(region.height, region.width, channels);
  for (std::int64_t y = 0; y < region.height; ++y) {
    data::convert_row(whole.row(region.top + y) + region.left * 3, 3, region.width, channels,
                      expected.row(y));
  }
  promise(data::testing::same_pixels(out, expected), "a region with other pixels than the whole image");
}

}  // namespace cosub::fuzz
