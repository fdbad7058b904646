// The samples that may fill one row: the one at its place, or where that is bad the next ones of the epoch's
// order. One thread's.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/data/microbatch.h"
#include "worker/data/sampler.h"
#include "worker/data/source.h"

namespace cosub::data {

class Candidates {
 public:
  /// The sampler must outlive it.
  Candidates(const Sampler& sampler, std::int64_t size, std::int64_t epoch, std::int64_t position)
      : sampler_(sampler), size_(size), epoch_(epoch), position_(position) {}

  /// Does `work(sample)` with the current candidate, and while that has a DataError, with the next one.
  /// Returns the sample that was good, which stays the current one. DataError when 100 in a row are bad.
  template <class Work>
  std::int64_t find(Work&& work) {
    constexpr std::int64_t kMaxBadInARow = 100;
    const std::int64_t tries = std::min(kMaxBadInARow, size_);
    while (static_cast<std::int64_t>(bad_.size()) < tries) {
      const auto passed = static_cast<std::int64_t>(bad_.size());
      const std::int64_t sample = sampler_.sample(epoch_, (position_ + passed) % size_);
      try {
        work(sample);
        return sample;
      } catch (const SharedDataError& error) {
        bad_.push_back({sample, error.what(), error.cause()});
      } catch (const DataError& error) {
        bad_.push_back({sample, error.what()});
      }
    }
    throw DataError(fmt::format("{} samples in a row cannot be read, the last one: {}", tries,
                                bad_.empty() ? "" : bad_.back().reason));
  }
  const std::vector<BadSample>& bad() const { return bad_; }

 private:
  const Sampler& sampler_;
  std::int64_t size_, epoch_, position_;
  std::vector<BadSample> bad_;
};

}  // namespace cosub::data
