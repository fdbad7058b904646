// The order of an epoch is a permutation, another one each time, and looks like a random one.
#include "worker/data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace cosub::data {
namespace {

std::vector<std::int64_t> order(std::uint64_t stream, std::int64_t size, std::int64_t epoch) {
  const Sampler sampler(stream, size);
  std::vector<std::int64_t> result(size);
  for (std::int64_t i = 0; i < size; ++i) result[i] = sampler.sample(epoch, i);
  return result;
}

bool is_permutation(const std::vector<std::int64_t>& order) {
  std::vector<bool> seen(order.size());
  for (const std::int64_t sample : order) {
    if (sample < 0 || sample >= static_cast<std::int64_t>(order.size()) || seen[sample]) return false;
    seen[sample] = true;
  }
  return true;
}

TEST(Sampler, EveryEpochHoldsEverySampleOnce) {
  for (std::int64_t size = 1; size <= 2000; size += size < 70 ? 1 : 13) {
    ASSERT_TRUE(is_permutation(order(11, size, size % 3))) << "size " << size;
  }
  EXPECT_TRUE(is_permutation(order(11, 2000, 0)));
  EXPECT_TRUE(is_permutation(order(11, 60000, 4)));
}

TEST(Sampler, EpochsAndStreamsHaveOrdersOfTheirOwn) {
  const auto first = order(5, 1000, 0);
  EXPECT_EQ(first, order(5, 1000, 0));
  for (const auto& other : {order(5, 1000, 1), order(6, 1000, 0)}) {
    int same = 0;
    for (std::size_t i = 0; i < first.size(); ++i) same += first[i] == other[i];
    EXPECT_LT(same, 10);  // one is expected
  }
}

/// Chi-square of where sample `watched` lands over many epochs, over `size` cells, in standard deviations
/// from its mean.
double position_chi_square(std::int64_t size, std::int64_t epochs, std::int64_t position) {
  const Sampler sampler(99, size);
  std::vector<double> count(size);
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) ++count[sampler.sample(epoch, position)];
  const double expected = static_cast<double>(epochs) / static_cast<double>(size);
  double chi_square = 0;
  for (const double n : count) chi_square += (n - expected) * (n - expected) / expected;
  const auto freedom = static_cast<double>(size - 1);
  return (chi_square - freedom) / std::sqrt(2 * freedom);
}

TEST(Sampler, EachPositionGetsEachSampleEquallyOften) {
  for (const std::int64_t size : {2, 3, 5, 16, 17, 50, 65}) {
    for (const std::int64_t position : {std::int64_t{0}, size / 2, size - 1}) {
      EXPECT_LT(std::abs(position_chi_square(size, 200 * size, position)), 5) << size << " at " << position;
    }
  }
}

TEST(Sampler, NeighboursInTheOrderAreUnrelated) {
  const auto samples = order(3, 60000, 0);
  double sum = 0;
  for (std::size_t i = 1; i < samples.size(); ++i) {
    sum +=
        (static_cast<double>(samples[i]) / 60000 - 0.5) * (static_cast<double>(samples[i - 1]) / 60000 - 0.5);
  }
  const double correlation = sum / static_cast<double>(samples.size() - 1) * 12;
  EXPECT_LT(std::abs(correlation), 5 / std::sqrt(60000.0));
}

TEST(StepPlan, StepsAndMicrobatchesTileTheEpochAndDropTheRest) {
  const StepPlan plan{.size = 103, .global = 20, .micro = 5};
  EXPECT_EQ(plan.steps_per_epoch(), 5);
  EXPECT_EQ(plan.microbatches(), 4);
  std::set<std::int64_t> positions;
  for (std::int64_t step = 5; step < 10; ++step) {
    EXPECT_EQ(plan.epoch_of(step), 1);
    for (std::int64_t m = 0; m < 4; ++m) {
      for (std::int64_t i = 0; i < 5; ++i) positions.insert(plan.place(step, m, i).position);
    }
  }
  EXPECT_EQ(positions.size(), 100u);
  EXPECT_EQ(*positions.rbegin(), 99);
}

TEST(StepPlan, WithoutRepeatsAMicrobatchIsARunOfTheOrder) {
  const StepPlan plan{.size = 103, .global = 20, .micro = 5};
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(plan.place(6, 2, i).position, 20 + 10 + i);
    EXPECT_EQ(plan.place(6, 2, i).draw, 20 + 10 + i);
  }
}

TEST(StepPlan, RepeatsOfASampleLieInDifferentMicrobatchesOfAStepOrAcrossItsEnd) {
  const StepPlan plan{.size = 103, .global = 20, .micro = 5, .repeats = 3};
  std::map<std::int64_t, std::vector<std::pair<std::int64_t, std::int64_t>>> where;  // by position
  std::set<std::int64_t> draws;
  for (std::int64_t step = 0; step < plan.steps_per_epoch(); ++step) {
    for (std::int64_t m = 0; m < 4; ++m) {
      for (std::int64_t i = 0; i < 5; ++i) {
        const StepPlan::Place place = plan.place(step, m, i);
        where[place.position].emplace_back(step, m);
        draws.insert(place.draw);
      }
    }
  }
  EXPECT_EQ(draws.size(), 100u);
  EXPECT_EQ(where.size(), 34u);  // ceil(100 / 3)
  for (const auto& [position, places] : where) {
    EXPECT_EQ(places.size(), position == 33 ? 1u : 3u);
    const std::set distinct(places.begin(), places.end());
    EXPECT_EQ(distinct.size(), places.size()) << "position " << position;
    EXPECT_LE(distinct.rbegin()->first - distinct.begin()->first, 1);
  }
}

TEST(WindowedSampler, EveryEpochHoldsEverySampleOnce) {
  for (const std::int64_t size : {1, 2, 7, 64, 65, 1000, 1023}) {
    for (const ShuffleWindow window : {ShuffleWindow{1, 1}, {4, 3}, {10, 7}, {64, 1}, {2000, 5}, {3, 5000}}) {
      const Sampler sampler(8, size, window);
      std::vector<std::int64_t> order(size);
      for (std::int64_t i = 0; i < size; ++i) order[i] = sampler.sample(3, i);
      ASSERT_TRUE(is_permutation(order)) << size << " in blocks of " << window.block_samples;
    }
  }
}

TEST(WindowedSampler, AWindowReadsItsBlocksOnlyAndInAnotherOrderEachEpoch) {
  const Sampler sampler(8, 10'000, ShuffleWindow{.block_samples = 50, .blocks = 4});
  std::vector<std::set<std::int64_t>> first_blocks;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<std::int64_t> blocks;
    std::int64_t ascents = 0;
    for (std::int64_t i = 0; i < 200; ++i) {
      blocks.insert(sampler.sample(epoch, i) / 50);
      ascents += i > 0 && sampler.sample(epoch, i) == sampler.sample(epoch, i - 1) + 1;
    }
    EXPECT_EQ(blocks.size(), 4u);
    EXPECT_LT(ascents, 10);  // one is expected
    first_blocks.push_back(blocks);
  }
  EXPECT_NE(first_blocks[0], first_blocks[1]);
}

}  // namespace
}  // namespace cosub::data
