#include "worker/data/permutation.h"

#include <bit>
#include <stdexcept>

#include "common/random.h"

namespace cosub::data {
namespace {

// Four make it pseudorandom for large domains (Luby & Rackoff 1988); small ones need more.
constexpr std::uint32_t kRounds = 8;

}  // namespace

Permutation::Permutation(std::uint64_t stream, std::int64_t size, std::uint32_t lane)
    : stream_(stream), size_(size), lane_(lane) {
  if (size < 1) throw std::logic_error("Permutation: size must be above 0");
  const int bits = std::bit_width(static_cast<std::uint64_t>(size - 1));
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
}

std::uint64_t Permutation::encrypt(std::int64_t epoch, std::int64_t number, std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_, right = value & mask;
  for (std::uint32_t round = 0; round < kRounds; ++round) {
    const std::uint64_t minor = static_cast<std::uint64_t>(number) << half_bits_ | right;
    KeyedRandom random(stream_, Purpose::kSampleOrder, static_cast<std::uint64_t>(epoch), minor,
                       lane_ * kRounds + round);
    const std::uint64_t mixed = left ^ (random.next_u32() & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

std::int64_t Permutation::at(std::int64_t epoch, std::int64_t index, std::int64_t number) const {
  if (index < 0 || index >= size_) throw std::logic_error("Permutation: index outside the domain");
  // The permutation of the larger domain, followed until it comes back into ours, is one of ours.
  auto value = static_cast<std::uint64_t>(index);
  do {
    value = encrypt(epoch, number, value);
  } while (value >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(value);
}

}  // namespace cosub::data
