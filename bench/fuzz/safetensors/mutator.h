// libFuzzer's mutations, applied to safetensors: a byte more in the header moves everything behind it, so
// half of the inputs get header length and file size put right afterwards. Without that nearly nothing would
// be refused later than at the header's end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>

#include "common/error.h"
#include "common/safetensors.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace cosub::fuzz {

/// The header's text: as long as the first 8 bytes say, or what there is.
inline std::string text_of(const std::uint8_t* data, std::size_t size) {
  std::uint64_t length = 0;
  if (size < sizeof length) return "";
  std::memcpy(&length, data, sizeof length);
  length = std::min<std::uint64_t>(length, size - sizeof length);
  return {reinterpret_cast<const char*>(data) + sizeof length, length};
}

/// The largest second number of any "data_offsets":[a,b]; 0 where there is none.
inline std::uint64_t last_offset(const std::string& text) {
  std::uint64_t last = 0;
  for (std::size_t at = 0; (at = text.find("_offsets", at)) != std::string::npos; ++at) {
    const std::size_t comma = text.find(',', text.find('[', at));
    if (comma == std::string::npos) break;
    std::uint64_t value = 0;
    for (std::size_t i = comma + 1; i < text.size() && text[i] >= '0' && text[i] <= '9' && value < 1'000'000;
         ++i)
      value = value * 10 + static_cast<std::uint64_t>(text[i] - '0');
    last = std::max(last, value);
  }
  return last;
}

inline std::size_t mutate(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
  std::minstd_rand random(seed);
  const unsigned kind = random() % 4;
  if (kind < 2 || size < 10 || max_size < 64) return LLVMFuzzerMutate(data, size, max_size);
  std::string text = text_of(data, size);
  const std::size_t max_text = max_size - 16;
  text.resize(max_text, ' ');
  const std::size_t old = std::min(max_text, text_of(data, size).size());
  text.resize(
      std::min(max_text, LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), old, max_text)));
  const std::uint64_t length = text.size();
  std::uint64_t data_bytes = size - std::min<std::uint64_t>(size, 8 + old);
  if (kind == 3) data_bytes = last_offset(text);
  data_bytes = std::min<std::uint64_t>(data_bytes, max_size - 8 - length);
  std::memcpy(data, &length, sizeof length);
  std::memcpy(data + 8, text.data(), length);
  std::memset(data + 8 + length, 'd', data_bytes);
  return 8 + length + data_bytes;
}

}  // namespace cosub::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  return cosub::fuzz::mutate(data, size, max_size, seed);
}
