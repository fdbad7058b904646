// Permutations of [0, size) computed point by point in O(1) memory: a Feistel network over the smallest
// domain of an even number of bits that holds `size`, with cycle walking (Black & Rogaway, "Ciphers with
// arbitrary finite domains", CT-RSA 2002). Values without state; thread-safe.
#pragma once

#include <cstdint>

namespace cosub::data {

/// One family of permutations of [0, size); each (stream, epoch, number, lane) names a member.
class Permutation {
 public:
  /// `size` > 0. Networks of different `lane`s (0, 1, ...) share no keys.
  Permutation(std::uint64_t stream, std::int64_t size, std::uint32_t lane = 0);
  std::int64_t size() const { return size_; }
  /// Where `index` in [0, size) goes in member (epoch, number).
  std::int64_t at(std::int64_t epoch, std::int64_t index, std::int64_t number = 0) const;

 private:
  std::uint64_t encrypt(std::int64_t epoch, std::int64_t number, std::uint64_t value) const;
  std::uint64_t stream_;
  std::int64_t size_;
  std::uint32_t lane_;
  int half_bits_;  // the network permutes 2^(2 * half_bits) values
};

}  // namespace cosub::data
