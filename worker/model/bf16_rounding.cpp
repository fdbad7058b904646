#include "worker/model/bf16_rounding.h"

#include <algorithm>
#include <bit>

#include "common/vector_clones.h"

namespace cosub::model {
namespace {

constexpr std::int64_t kChunk = 1 << 14;

COSUB_VECTOR_CLONES void round_chunk(const float* from, float* to, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(from[i]);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
    const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    to[i] = std::bit_cast<float>(is_nan ? 0x7FC00000U : rounded);
  }
}

}  // namespace

void round_to_bf16(const float* from, float* to, std::int64_t size) {
  const std::int64_t chunks = (size + kChunk - 1) / kChunk;
#pragma omp parallel for if (chunks > 1)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int64_t begin = chunk * kChunk;
    round_chunk(from + begin, to + begin, std::min(kChunk, size - begin));
  }
}

}  // namespace cosub::model
