// ImageNet-21k's 14,197,122 samples: each exactly once an epoch, whatever the number of ranks.
#include <gtest/gtest.h>

#include <vector>

#include "worker/collective/reduction/partition.h"
#include "worker/data/sampler.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kSamples = 14'197'122;

/// Walks the epoch as `ranks` ranks do; returns how often each sample was seen.
std::vector<std::uint8_t> count_samples(const Sampler& sampler, const StepPlan& plan, std::int64_t epoch,
                                        std::int64_t ranks) {
  std::vector<std::uint8_t> seen(plan.size, 0);
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const collective::Range own = collective::microbatches_of(rank, ranks, plan.microbatches());
    for (std::int64_t s = 0; s < plan.steps_per_epoch(); ++s) {
      const std::int64_t step = epoch * plan.steps_per_epoch() + s;
      for (std::int64_t m = own.begin; m < own.end; ++m) {
        for (std::int64_t row = 0; row < plan.micro; ++row) {
          ++seen[sampler.sample(epoch, plan.place(step, m, row).position)];
        }
      }
    }
  }
  return seen;
}

TEST(Scale, EverySampleOfImageNet21kOnceAnEpochForAnyNumberOfRanks) {
  const StepPlan plan{.size = kSamples, .global = 8000, .micro = 8};
  const Sampler sampler(5, kSamples);
  const std::int64_t rest = kSamples % plan.global;  // dropped: another one in each epoch
  for (const std::int64_t ranks : {1, 3, 8, 1000}) {
    std::vector<std::uint8_t> seen = count_samples(sampler, plan, 57, ranks);
    for (std::int64_t i = 0; i < rest; ++i) ++seen[sampler.sample(57, kSamples - 1 - i)];
    std::int64_t not_once = 0;
    for (const std::uint8_t count : seen) not_once += count != 1;
    EXPECT_EQ(not_once, 0) << ranks << " ranks";
  }
}

TEST(Scale, NothingIsDroppedWhereStepsFillTheEpoch) {
  constexpr std::int64_t kGlobal = 18;  // divides the number of samples
  static_assert(kSamples % kGlobal == 0);
  const StepPlan plan{.size = kSamples, .global = kGlobal, .micro = 6};
  const Sampler sampler(6, kSamples, ShuffleWindow{4096, 16});
  const std::vector<std::uint8_t> seen = count_samples(sampler, plan, 3, 3);
  std::int64_t not_once = 0;
  for (const std::uint8_t count : seen) not_once += count != 1;
  EXPECT_EQ(not_once, 0);
}

}  // namespace
}  // namespace cosub::data
