// Files in memory, decoded whole, for the tests of the decoders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/data/image/decode.h"

namespace cosub::testing {

using Bytes = std::vector<std::uint8_t>;

inline Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

inline data::Image decode_whole(const Bytes& bytes, std::int64_t channels) {
  const data::ImageInfo info = data::read_info(bytes);
  data::Image image;
  data::decode(bytes, {0, 0, info.height, info.width}, channels, image);
  return image;
}

inline std::string data_error(const Bytes& bytes) {
  try {
    decode_whole(bytes, 3);
  } catch (const DataError& error) {
    return error.what();
  }
  return "no DataError";
}

}  // namespace cosub::testing
