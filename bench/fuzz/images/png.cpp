// libFuzzer on the PNG decoder; run by bench/fuzz/run. libpng itself is the system's, without sanitizers.
#include <zlib.h>

#include <cstring>
#include <random>

#include "bench/fuzz/images/contract.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace cosub::fuzz {
namespace {

std::uint32_t big_endian(const std::uint8_t* data) {
  return std::uint32_t{data[0]} << 24 | std::uint32_t{data[1]} << 16 | std::uint32_t{data[2]} << 8 | data[3];
}

/// The checksum of every chunk; without it nearly nothing would be refused later than there.
void mend_checksums(std::uint8_t* data, std::size_t size) {
  for (std::size_t at = 8; at + 12 <= size;) {
    const std::uint32_t length = big_endian(data + at);
    if (length > size - at - 12) return;
    const auto sum = static_cast<std::uint32_t>(::crc32(0, data + at + 4, length + 4));
    for (int i = 0; i < 4; ++i) data[at + 8 + length + i] = static_cast<std::uint8_t>(sum >> (24 - 8 * i));
    at += 12 + length;
  }
}

/// The content of one chunk, changed in place.
void mutate_chunk(std::uint8_t* data, std::size_t size, std::minstd_rand& random) {
  for (std::size_t at = 8; at + 12 <= size;) {
    const std::uint32_t length = big_endian(data + at);
    if (length > size - at - 12) return;
    const bool is_last = at + 24 + length > size;
    if (length > 0 && (is_last || random() % 3 == 0)) {
      LLVMFuzzerMutate(data + at + 8, length, length);
      return;
    }
    at += 12 + length;
  }
}

}  // namespace
}  // namespace cosub::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  std::minstd_rand random(seed);
  const unsigned kind = random() % 4;
  if (kind < 2) {
    size = LLVMFuzzerMutate(data, size, max_size);
  } else {
    cosub::fuzz::mutate_chunk(data, size, random);
  }
  if (kind > 0) cosub::fuzz::mend_checksums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cosub::fuzz::check_image({data, size});
  return 0;
}
