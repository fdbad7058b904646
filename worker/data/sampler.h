// Which sample stands where: the order of each epoch, and how steps and microbatches divide it. Values
// without state; thread-safe.
#pragma once

#include <cstdint>

namespace cosub::data {

/// The epoch's order: position -> sample, a permutation keyed by (stream, epoch), in O(1) memory (Feistel
/// network with cycle walking: Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
class Sampler {
 public:
  Sampler(std::uint64_t stream, std::int64_t size);  // size > 0
  /// `position` in [0, size).
  std::int64_t sample(std::int64_t epoch, std::int64_t position) const;

 private:
  std::uint64_t encrypt(std::int64_t epoch, std::uint64_t value) const;
  std::uint64_t stream_;
  std::int64_t size_;
  int half_bits_;  // the network permutes 2^(2 * half_bits) values, the smallest such domain that holds all
                   // positions
};

/// Where steps lie: an epoch has floor(size / global) steps (the rest of its order is dropped; the next
/// epoch's order is another one). Step s is in epoch s / steps_per_epoch; its microbatch m holds positions (s
/// % steps_per_epoch) * global + m * micro ... + micro.
struct StepPlan {
  std::int64_t size = 0, global = 0, micro = 0;
  std::int64_t steps_per_epoch() const { return size / global; }
  std::int64_t microbatches() const { return global / micro; }
  std::int64_t epoch_of(std::int64_t step) const { return step / steps_per_epoch(); }
  std::int64_t first_position(std::int64_t step, std::int64_t microbatch) const {
    return step % steps_per_epoch() * global + microbatch * micro;
  }
};

}  // namespace cosub::data
