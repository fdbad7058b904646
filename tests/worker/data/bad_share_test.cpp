// How many bad samples are too many: exactly the share of the set in the end, long before that what cannot be
// chance.
#include "worker/data/bad_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "worker/data/sampler.h"

namespace cosub::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AllowedBad, IsExactWhereTheShareIsNoBinaryFraction) {
  EXPECT_EQ(allowed_bad(0.01, 400), 4);
  EXPECT_EQ(allowed_bad(0.01, 399), 3);
  EXPECT_EQ(allowed_bad(0.01, 14'197'122), 141'971);
  EXPECT_EQ(allowed_bad(0, 1000), 0);
  EXPECT_EQ(allowed_bad(1, 1000), 1000);
  for (std::int64_t percent = 0; percent <= 100; ++percent) {
    for (const std::int64_t size : {100, 700, 12'800, 14'000'000}) {
      EXPECT_EQ(allowed_bad(static_cast<double>(percent) / 100, size), percent * size / 100)
          << percent << " % of " << size;
    }
  }
}

TEST(BadShare, IsOfTheWholeSetWhereverInItTheBadOnesStand) {
  BadShare early({.max_share = 0.01, .size = 400, .samples_per_step = 32});
  EXPECT_EQ(early.judge(0, 4, 4), "");
  EXPECT_THAT(
      early.judge(1, 1, 5),
      HasSubstr("5 of the 400 training samples are bad (1.25 %); data.max_bad_share allows 4 of them"));
  BadShare late({.max_share = 0.01, .size = 400, .samples_per_step = 32, .first_step = 7000});
  EXPECT_EQ(late.judge(7100, 1, 4), "");
  EXPECT_NE(late.judge(7101, 1, 5), "");
}

TEST(BadShare, NoneAllowedIsNone) {
  EXPECT_NE(BadShare({.max_share = 0, .size = 1'000'000, .samples_per_step = 32}).judge(0, 1, 1), "");
}

struct End {
  std::string why;
  std::int64_t step = 0, bad = 0;
};

/// Reads `steps` steps of a set of which `is_bad` says what is bad, in the epoch's order.
template <class IsBad>
End read_epoch(BadShare::Options options, const Sampler& sampler, std::int64_t steps, const IsBad& is_bad) {
  BadShare share(options);
  End end;
  const auto per_step = static_cast<std::int64_t>(options.samples_per_step);
  for (; end.step < steps; ++end.step) {
    std::int64_t found = 0;
    for (std::int64_t k = 0; k < per_step; ++k) found += is_bad(sampler.sample(0, end.step * per_step + k));
    end.bad += found;
    if (found > 0) end.why = share.judge(end.step, found, end.bad);
    if (!end.why.empty()) break;
  }
  return end;
}

constexpr std::int64_t kSize = 400'000, kPerStep = 200;

TEST(BadShare, WhatIsHopelessStopsLongBeforeTheSetsShareIsReached) {
  const BadShare::Options options{.max_share = 0.01, .size = kSize, .samples_per_step = kPerStep};
  const Sampler sampler(3, kSize);
  // Half of the set is gone, from the start or after an hour.
  const End half =
      read_epoch(options, sampler, kSize / kPerStep, [](std::int64_t i) { return i < kSize / 2; });
  EXPECT_EQ(half.step, 0);
  EXPECT_THAT(half.why, AllOf(HasSubstr("samples read since step 0 turned out to be bad"),
                              HasSubstr("data.max_bad_share allows 1.00 % of the set")));
  BadShare later(options);
  EXPECT_EQ(later.judge(1100, 1, 1), "");
  std::int64_t step = 1101;
  for (std::int64_t bad = 1; later.judge(step, kPerStep / 2, bad += kPerStep / 2).empty();) ++step;
  EXPECT_LT(step, 1105);
  // Twice the share is found as well, if not at once.
  const End twice =
      read_epoch(options, sampler, kSize / kPerStep, [](std::int64_t i) { return i % 50 == 0; });
  EXPECT_THAT(twice.why, HasSubstr("turned out to be bad"));
  EXPECT_LT(twice.step, 200);
  EXPECT_LT(twice.bad, 2000);
}

TEST(BadShare, WhatIsWithinTheShareNeverStops) {
  const BadShare::Options options{.max_share = 0.01, .size = kSize, .samples_per_step = kPerStep};
  for (std::uint64_t stream = 0; stream < 3; ++stream) {
    const Sampler sampler(stream, kSize);
    EXPECT_EQ(read_epoch(options, sampler, kSize / kPerStep, [](std::int64_t i) { return i % 100 == 7; }).why,
              "");
    EXPECT_EQ(
        read_epoch(options, sampler, kSize / kPerStep, [](std::int64_t i) { return i < kSize / 100; }).why,
        "");
  }
}

// One per cent of the set in one piece: a few windows of the order have all of it.
TEST(BadShare, AShardThatIsGoneIsNoProofWhereNeighboursStayTogether) {
  BadShare::Options options{.max_share = 0.01, .size = kSize, .samples_per_step = kPerStep};
  const auto is_bad = [](std::int64_t i) { return i >= 120'000 && i < 120'000 + kSize / 100; };
  bool stopped_singly = false;
  for (std::uint64_t stream = 0; stream < 3; ++stream) {
    const Sampler sampler(stream, kSize, ShuffleWindow{1024, 32});
    options.block_size = 1024;
    EXPECT_EQ(read_epoch(options, sampler, kSize / kPerStep, is_bad).why, "");
    options.block_size = 1;
    stopped_singly |= !read_epoch(options, sampler, kSize / kPerStep, is_bad).why.empty();
  }
  EXPECT_TRUE(stopped_singly);  // so the blocks had to be counted
}

}  // namespace
}  // namespace cosub::data
