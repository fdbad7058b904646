// Keyed random numbers: every draw is a pure function of its key, never of a generator's history, of a rank
// or of a thread, so that a run gives the same numbers on any number of ranks and after any resume.
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as the keyed
// bijection. Distributions are our own, because the standard's differ between libraries. Not for
// cryptography. Thread-safe: each KeyedRandom is a value.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace cosub {

/// What a draw is for; part of the key, so that two purposes never share numbers. Values are stored in
/// recorded runs: append, never renumber.
enum class Purpose : std::uint32_t {
  kSampleOrder = 1,
  kCrop = 2,
  kFlip = 3,
  kMix = 4,
  kKeptRows = 5,
  kDropout = 6,
  kInit = 7,
  kTest = 8,
  kThreeAugment = 9,
  kColorJitter = 10,
  kRandAugment = 11,
  kErasing = 12,
  kPack = 13,
};

/// One 64-bit stream identity for (run seed, stage name): XXH64 of the name, seeded by the run's seed.
std::uint64_t stream_seed(std::uint64_t seed, std::string_view stage);

/// The raw bijection: 128-bit counter, 64-bit key -> 128 random bits.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// A sequence of draws for one key. `major` is the epoch or step, `minor` the sample or microbatch, `lane`
/// whatever else tells two draws apart (block * 2 + half, ...; below 2^16); major and minor are below 2^48. A
/// key gives 2^18 32-bit words (uniform and normal take 2 and 4, uniform_int and each chosen index 1); more
/// throw std::length_error, so a large tensor takes one key per row.
class KeyedRandom {
 public:
  KeyedRandom(std::uint64_t stream, Purpose purpose, std::uint64_t major, std::uint64_t minor,
              std::uint32_t lane = 0);

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  double uniform();                            // [0, 1), 53 bits
  std::uint64_t uniform_int(std::uint64_t n);  // [0, n), unbiased (Lemire 2019); n > 0
  double normal();                             // mean 0, standard deviation 1 (Box-Muller)
  double gamma(double shape);                  // Marsaglia & Tsang 2000; shape > 0, scale 1
  double beta(double a, double b);             // from two gammas

  /// k of n indices without replacement, ascending; uniform over all subsets (Fisher-Yates, first k).
  std::vector<std::int64_t> choose(std::int64_t n, std::int64_t k);

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> words_{};
  int used_ = 4;
  std::uint32_t num_blocks_ = 0;
};

}  // namespace cosub
