#include "common/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

namespace cosub {
namespace {

KeyedRandom keyed(std::uint64_t minor, std::uint64_t major = 0) {
  return KeyedRandom(stream_seed(1, "test"), Purpose::kTest, major, minor);
}

/// Mean and variance of 100,000 draws, each under a key of its own.
struct Moments {
  double mean = 0, variance = 0;
};
template <class Draw>
Moments moments(const Draw& draw) {
  constexpr int kDraws = 100'000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    KeyedRandom random = keyed(static_cast<std::uint64_t>(i));
    const double x = draw(random);
    sum += x;
    squares += x * x;
  }
  const double mean = sum / kDraws;
  return {mean, squares / kDraws - mean * mean};
}

// kat_vectors of the Random123 distribution (github.com/DEShawResearch/random123), lines "philox4x32 10".
TEST(Philox, GivesThePublishedAnswers) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(KeyedRandom, SameKeyGivesTheSameNumbers) {
  KeyedRandom a = keyed(5, 7);
  KeyedRandom b = keyed(5, 7);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(a.next_u64(), b.next_u64());
}

TEST(KeyedRandom, EachPartOfTheKeyChangesTheNumbers) {
  constexpr std::uint64_t kHigh = std::uint64_t{1} << 40;
  const std::vector<KeyedRandom> all = {
      KeyedRandom(1, Purpose::kTest, 2, 3, 4),     KeyedRandom(2, Purpose::kTest, 2, 3, 4),
      KeyedRandom(1, Purpose::kCrop, 2, 3, 4),     KeyedRandom(1, Purpose::kTest, 3, 3, 4),
      KeyedRandom(1, Purpose::kTest, 2, 4, 4),     KeyedRandom(1, Purpose::kTest, 2, 3, 5),
      KeyedRandom(1, Purpose::kTest, kHigh, 3, 4), KeyedRandom(1, Purpose::kTest, 2, kHigh, 4),
      KeyedRandom(1, Purpose::kTest, 3, 2, 4)};
  std::set<std::uint64_t> first;
  for (KeyedRandom random : all) first.insert(random.next_u64());
  EXPECT_EQ(first.size(), all.size());
}

TEST(KeyedRandom, StreamDependsOnSeedAndStage) {
  EXPECT_EQ(stream_seed(1, "pretrain"), stream_seed(1, "pretrain"));
  EXPECT_NE(stream_seed(1, "pretrain"), stream_seed(2, "pretrain"));
  EXPECT_NE(stream_seed(1, "pretrain"), stream_seed(1, "finetune"));
}

TEST(KeyedRandom, RefusesWhatItCannotTellApart) {
  EXPECT_THROW(KeyedRandom(0, Purpose::kTest, std::uint64_t{1} << 48, 0), std::length_error);
  EXPECT_THROW(KeyedRandom(0, Purpose::kTest, 0, std::uint64_t{1} << 48), std::length_error);
  EXPECT_THROW(KeyedRandom(0, Purpose::kTest, 0, 0, 1U << 16), std::length_error);
}

TEST(KeyedRandom, EndsAfterTwoToTheEighteenWordsInsteadOfRepeating) {
  KeyedRandom random = keyed(0);
  for (int i = 0; i < 1 << 18; ++i) random.next_u32();
  EXPECT_THROW(random.next_u32(), std::length_error);
}

TEST(KeyedRandom, UniformHasItsMoments) {
  const Moments found = moments([](KeyedRandom& random) { return random.uniform(); });
  EXPECT_NEAR(found.mean, 0.5, 0.004);
  EXPECT_NEAR(found.variance, 1.0 / 12, 0.002);
}

TEST(KeyedRandom, NormalHasItsMoments) {
  const Moments found = moments([](KeyedRandom& random) { return random.normal(); });
  EXPECT_NEAR(found.mean, 0, 0.015);
  EXPECT_NEAR(found.variance, 1, 0.025);
  const Moments cubes = moments([](KeyedRandom& random) { return std::pow(random.normal(), 4); });
  EXPECT_NEAR(cubes.mean, 3, 0.15);
}

TEST(KeyedRandom, GammaHasItsMoments) {
  for (const double shape : {0.2, 1.0, 4.5}) {
    const Moments found = moments([&](KeyedRandom& random) { return random.gamma(shape); });
    EXPECT_NEAR(found.mean, shape, 0.03 * shape) << shape;
    EXPECT_NEAR(found.variance, shape, 0.08 * shape) << shape;
  }
  EXPECT_THROW(keyed(0).gamma(0), std::invalid_argument);
}

TEST(KeyedRandom, BetaHasItsMoments) {
  for (const auto& [a, b] : std::vector<std::pair<double, double>>{{0.2, 0.2}, {0.8, 0.8}, {1, 1}, {2, 5}}) {
    const Moments found = moments([&](KeyedRandom& random) { return random.beta(a, b); });
    EXPECT_NEAR(found.mean, a / (a + b), 0.006) << a << " " << b;
    EXPECT_NEAR(found.variance, a * b / ((a + b) * (a + b) * (a + b + 1)), 0.003) << a << " " << b;
  }
}

TEST(KeyedRandom, BetaStaysBetweenZeroAndOneForTinyShapes) {
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const double x = keyed(i).beta(1e-4, 1e-4);
    ASSERT_TRUE(x >= 0 && x <= 1) << x;
  }
}

TEST(KeyedRandom, UniformIntIsUniformOnBothSidesOf32Bits) {
  for (const std::uint64_t n : {std::uint64_t{7}, std::uint64_t{7} << 32}) {
    std::map<std::uint64_t, int> counts;
    for (std::uint64_t i = 0; i < 70'000; ++i) {
      const std::uint64_t x = keyed(i).uniform_int(n);
      ASSERT_LT(x, n);
      ++counts[x / (n / 7)];
    }
    double chi_square = 0;
    for (std::uint64_t cell = 0; cell < 7; ++cell) chi_square += std::pow(counts[cell] - 10'000, 2) / 10'000;
    EXPECT_LT(chi_square, 22.5) << n;  // 6 degrees of freedom, p = 0.001
  }
  EXPECT_EQ(keyed(0).uniform_int(1), 0U);
  EXPECT_THROW(keyed(0).uniform_int(0), std::invalid_argument);
}

TEST(KeyedRandom, ChooseIsUniformOverAllSubsets) {
  std::map<std::vector<std::int64_t>, int> counts;
  constexpr int kDraws = 60'000;
  for (int i = 0; i < kDraws; ++i) ++counts[keyed(static_cast<std::uint64_t>(i)).choose(6, 3)];
  ASSERT_EQ(counts.size(), 20U);  // 6 over 3
  double chi_square = 0;
  for (const auto& [subset, count] : counts)
    chi_square += std::pow(count - kDraws / 20.0, 2) / (kDraws / 20.0);
  EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, p = 0.001
}

TEST(KeyedRandom, ChooseGivesDistinctAscendingIndices) {
  for (std::int64_t k : {0, 1, 50, 99, 100}) {
    const std::vector<std::int64_t> chosen = keyed(3).choose(100, k);
    ASSERT_EQ(static_cast<std::int64_t>(chosen.size()), k);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      EXPECT_TRUE(chosen[i] >= 0 && chosen[i] < 100);
      EXPECT_TRUE(i == 0 || chosen[i - 1] < chosen[i]);
    }
  }
  EXPECT_EQ(keyed(3).choose(100, 50), keyed(3).choose(100, 50));
  EXPECT_NE(keyed(3).choose(100, 50), keyed(4).choose(100, 50));
  EXPECT_THROW(keyed(0).choose(3, 4), std::invalid_argument);
}

// Recorded runs and checkpoints hold what these numbers made: they must never change.
TEST(KeyedRandom, NumbersStayWhatTheyAre) {
  EXPECT_EQ(stream_seed(0, "pretrain"), 11422956016398619055ULL);
  KeyedRandom random(stream_seed(0, "pretrain"), Purpose::kKeptRows, 10, 20, 30);
  EXPECT_EQ(random.next_u64(), 17019701311091943783ULL);
  EXPECT_EQ(random.uniform_int(1000), 222U);
  EXPECT_EQ(random.choose(10, 4), (std::vector<std::int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(random.choose(10, 4), (std::vector<std::int64_t>{2, 4, 6, 7}));
}

}  // namespace
}  // namespace cosub
