// What is drawn for augmentations: distributions, limits and errors. What is done with it is held to Pillow,
// torchvision and timm by tests/parity/augment_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <stdexcept>
#include <string>

#include "common/error.h"
#include "tests/worker/data/image/distributions.h"
#include "worker/data/image/color_policy.h"
#include "worker/data/image/geometry.h"
#include "worker/data/image/rand_augment.h"
#include "worker/data/image/random_erasing.h"

namespace cosub::data {
namespace {

using testing::comes_up;
using ::testing::HasSubstr;
using testing::is_distributed;
using testing::is_uniform;

constexpr std::size_t kDraws = 40'000;

/// One draw for each of many keys.
template <typename Draw>
auto draw_many(Draw draw, std::size_t count = kDraws) {
  std::vector<std::invoke_result_t<Draw, KeyedRandom&>> drawn;
  for (std::size_t i = 0; i < count; ++i) {
    KeyedRandom random(11, Purpose::kTest, 2, i);
    drawn.push_back(draw(random));
  }
  return drawn;
}

TEST(ThreeAugment, KindsAreEquallyLikelyAndSigmaIsUniform) {
  const auto drawn = draw_many(draw_three_augment);
  std::map<ThreeAugment::Kind, std::vector<double>> sigmas;
  for (const ThreeAugment& one : drawn) sigmas[one.kind].push_back(one.sigma);
  ASSERT_EQ(sigmas.size(), 3u);
  for (const auto& [kind, values] : sigmas) EXPECT_TRUE(comes_up(values.size(), drawn.size(), 1.0 / 3));
  EXPECT_TRUE(is_uniform(sigmas[ThreeAugment::Kind::kBlur], 0.1, 2.0));
}

TEST(ColorJitter, FactorsAreUniformAndEveryOrderIsEquallyLikely) {
  const auto drawn = draw_many([](KeyedRandom& random) { return draw_color_jitter(0.4, 0.2, 1.5, random); });
  std::map<ColorJitter::Kind, std::vector<double>> factors;
  std::map<std::vector<ColorJitter::Kind>, std::size_t> orders;
  for (const ColorJitter& one : drawn) {
    std::vector<ColorJitter::Kind> order;
    for (const ColorJitter::Step& step : one.steps) {
      order.push_back(step.kind);
      factors[step.kind].push_back(step.factor);
    }
    ++orders[order];
  }
  EXPECT_TRUE(is_uniform(factors[ColorJitter::Kind::kBrightness], 0.6, 1.4));
  EXPECT_TRUE(is_uniform(factors[ColorJitter::Kind::kContrast], 0.8, 1.2));
  EXPECT_TRUE(is_uniform(factors[ColorJitter::Kind::kSaturation], 0.0, 2.5));  // never below 0
  ASSERT_EQ(orders.size(), 6u);
  for (const auto& [order, count] : orders) EXPECT_TRUE(comes_up(count, drawn.size(), 1.0 / 6));
}

TEST(ColorJitter, ZeroLeavesTheImageAlone) {
  for (const ColorJitter& one :
       draw_many([](KeyedRandom& random) { return draw_color_jitter(0, 0, 0, random); }, 100)) {
    for (const ColorJitter::Step& step : one.steps) EXPECT_EQ(step.factor, 1.0);
  }
}

/// Magnitudes as the rotations show them (3 degrees each), without their sign.
std::vector<double> magnitudes_of(const std::string& text) {
  std::vector<double> magnitudes;
  for (const auto& ops : draw_many([parsed = config::parse_rand_augment(text)](KeyedRandom& random) {
         return draw_rand_augment(parsed, random);
       })) {
    for (const DrawnOp& drawn : ops) {
      if (drawn.op == RandOp::kRotate) magnitudes.push_back(std::abs(drawn.argument) / 3);
    }
  }
  return magnitudes;
}

double normal_share_below(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

TEST(RandAugment, OpsAreEquallyLikelyAndIndependent) {
  const config::RandAugmentConfig parsed = config::parse_rand_augment("rand-m9-p1-inc1");
  std::map<RandOp, std::size_t> counts;
  std::size_t twice = 0;
  const auto drawn = draw_many([&](KeyedRandom& random) { return draw_rand_augment(parsed, random); });
  for (const auto& ops : drawn) {
    ASSERT_EQ(ops.size(), 2u);
    for (const DrawnOp& one : ops) ++counts[one.op];
    twice += ops[0].op == ops[1].op ? 1 : 0;
  }
  ASSERT_EQ(counts.size(), static_cast<std::size_t>(kNumRandOps));
  for (const auto& [op, count] : counts) {
    EXPECT_TRUE(comes_up(count, 2 * drawn.size(), 1.0 / kNumRandOps)) << "op " << static_cast<int>(op);
  }
  EXPECT_TRUE(comes_up(twice, drawn.size(), 1.0 / kNumRandOps));
}

TEST(RandAugment, EachOpComesUpWithItsProbability) {
  const config::RandAugmentConfig parsed = config::parse_rand_augment("rand-m9-n3-p0.3-inc1");
  std::map<std::size_t, std::size_t> sizes;
  for (const auto& ops : draw_many([&](KeyedRandom& random) { return draw_rand_augment(parsed, random); })) {
    ++sizes[ops.size()];
  }
  EXPECT_TRUE(comes_up(sizes[0], kDraws, 0.7 * 0.7 * 0.7));
  EXPECT_TRUE(comes_up(sizes[1], kDraws, 3 * 0.3 * 0.7 * 0.7));
  EXPECT_TRUE(comes_up(sizes[2], kDraws, 3 * 0.3 * 0.3 * 0.7));
  EXPECT_TRUE(comes_up(sizes[3], kDraws, 0.3 * 0.3 * 0.3));
}

TEST(RandAugment, MagnitudesAreFixedNormalOrUniform) {
  for (const double magnitude : magnitudes_of("rand-m7-n8-p1-inc1")) ASSERT_DOUBLE_EQ(magnitude, 7);
  EXPECT_TRUE(is_distributed(magnitudes_of("rand-m5-mstd0.5-n8-p1-inc1"),
                             [](double x) { return normal_share_below((x - 5) / 0.5); }));
  EXPECT_TRUE(is_uniform(magnitudes_of("rand-m6-mstd101-n8-p1-inc1"), 0, 6));
}

TEST(RandAugment, MagnitudesEndAtZeroAndAtTheUpperBound) {
  std::vector<double> below;
  const auto cut = magnitudes_of("rand-m9-mstd0.5-n8-p1-inc1");
  for (const double magnitude : cut) {
    ASSERT_LE(magnitude, 10);
    if (magnitude < 10) below.push_back(magnitude);
  }
  const double share = normal_share_below(2);  // 10 is two deviations above 9
  EXPECT_TRUE(comes_up(below.size(), cut.size(), share));
  EXPECT_TRUE(is_distributed(below, [=](double x) { return normal_share_below((x - 9) / 0.5) / share; }));

  const auto higher = magnitudes_of("rand-m9-mstd0.5-mmax12-n8-p1-inc1");
  EXPECT_TRUE(is_distributed(higher, [](double x) { return normal_share_below((x - 9) / 0.5); }));
  std::size_t zeros = 0;
  const auto low = magnitudes_of("rand-m1-mstd1-n8-p1-inc1");
  for (const double magnitude : low) zeros += magnitude == 0 ? 1 : 0;
  EXPECT_TRUE(comes_up(zeros, low.size(), normal_share_below(-1)));
}

TEST(RandAugment, HalfOfTheSignsAreNegative) {
  const config::RandAugmentConfig parsed = config::parse_rand_augment("rand-m9-p1-inc1");
  std::map<RandOp, std::map<double, std::size_t>> arguments;
  for (const auto& ops : draw_many([&](KeyedRandom& random) { return draw_rand_augment(parsed, random); })) {
    for (const DrawnOp& one : ops) ++arguments[one.op][one.argument];
  }
  const std::set<RandOp> with_sign{RandOp::kRotate,     RandOp::kColor,      RandOp::kContrast,
                                   RandOp::kBrightness, RandOp::kSharpness,  RandOp::kShearX,
                                   RandOp::kShearY,     RandOp::kTranslateX, RandOp::kTranslateY};
  for (const auto& [op, counts] : arguments) {
    ASSERT_EQ(counts.size(), with_sign.contains(op) ? 2u : 1u) << "op " << static_cast<int>(op);
    if (counts.size() < 2) continue;
    const std::size_t first = counts.begin()->second, second = counts.rbegin()->second;
    EXPECT_TRUE(comes_up(first, first + second, 0.5)) << "op " << static_cast<int>(op);
  }
}

std::string parse_error(const std::string& text) {
  try {
    config::parse_rand_augment(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

TEST(RandAugment, ErrorsNameTheSection) {
  for (const auto& [text, section] : std::map<std::string, std::string>{
           {"original-m9-inc1", "at 'original'"},
           {"rand-m9-w0-inc1", "at 'w0'"},
           {"rand-m9-tweights-inc1", "at 'tweights'"},
           {"rand-mx-inc1", "at 'mx'"},
           {"rand-m9.5-inc1", "at 'm9.5'"},
           {"rand-m9-mstd0.5x-inc1", "at 'mstd0.5x'"},
           {"rand-m9-p1.5-inc1", "at 'p1.5'"},
           {"rand-m9-n0-inc1", "at 'n0'"},
           {"rand-m99999999999-inc1", "at 'm99999999999'"},
           {"rand-m9-m8-inc1", "at 'm8': it is there twice"},
           {"rand-m9-mstd0.5-inc0", "inc1 is missing"},
           {"rand-m9", "inc1 is missing"},
           {"", "the first part must be rand"},
       }) {
    EXPECT_THAT(parse_error(text), HasSubstr(section)) << text;
    EXPECT_THAT(parse_error(text), HasSubstr("'" + text + "'"));
  }
}

/// One large image, so that every box and crop fits and rounding does not show.
constexpr std::int64_t kLargeHeight = 4000, kLargeWidth = 6000;

struct Shares {
  std::vector<double> area, log_ratio, top, left;  // of the image, width / height, of the room there is
  void add(const Region& region) {
    const auto height = static_cast<double>(region.height), width = static_cast<double>(region.width);
    area.push_back(height * width / (kLargeHeight * kLargeWidth));
    log_ratio.push_back(std::log(width / height));
    top.push_back((static_cast<double>(region.top) + 0.5) / (kLargeHeight - height + 1));
    left.push_back((static_cast<double>(region.left) + 0.5) / (kLargeWidth - width + 1));
  }
};

TEST(RandomErasing, AreaAspectAndPlaceAreUniform) {
  ErasingConfig config;
  config.probability = 0.6;
  config.max_area = 0.2;
  config.min_aspect = 0.5;
  Shares shares;
  std::set<std::uint64_t> noises;
  for (const auto& boxes : draw_many(
           [&](KeyedRandom& random) { return draw_erasing(config, kLargeHeight, kLargeWidth, random); })) {
    ASSERT_LE(boxes.size(), 1u);
    for (const ErasedBox& box : boxes) {
      shares.add(box.region);
      noises.insert(box.noise);
    }
  }
  EXPECT_TRUE(comes_up(shares.area.size(), kDraws, 0.6));
  EXPECT_TRUE(is_uniform(shares.area, 0.02, 0.2));
  EXPECT_TRUE(is_uniform(shares.log_ratio, -std::log(2.0), std::log(2.0)));
  EXPECT_TRUE(is_uniform(shares.top, 0, 1));
  EXPECT_TRUE(is_uniform(shares.left, 0, 1));
  EXPECT_EQ(noises.size(), shares.area.size());
}

TEST(RandomErasing, SeveralBoxesShareTheArea) {
  ErasingConfig config;
  config.probability = 1;
  config.max_area = 0.2;
  config.min_aspect = 0.5;
  config.min_count = 2;
  config.max_count = 4;
  std::map<std::size_t, Shares> by_count;
  for (const auto& boxes : draw_many(
           [&](KeyedRandom& random) { return draw_erasing(config, kLargeHeight, kLargeWidth, random); })) {
    for (const ErasedBox& box : boxes) by_count[boxes.size()].add(box.region);
  }
  ASSERT_EQ(by_count.size(), 3u);
  for (const auto& [count, shares] : by_count) {
    const auto boxes = static_cast<double>(count);
    EXPECT_TRUE(comes_up(shares.area.size() / count, kDraws, 1.0 / 3)) << count;
    EXPECT_TRUE(is_uniform(shares.area, 0.02 / boxes, 0.2 / boxes)) << count;
  }
}

TEST(RandomErasing, ABoxThatDoesNotFitIsLeftOut) {
  ErasingConfig config;
  config.probability = 1;
  config.min_area = config.max_area = 1;
  config.min_aspect = 1;
  for (const auto& boxes :
       draw_many([&](KeyedRandom& random) { return draw_erasing(config, 32, 32, random); }, 100)) {
    EXPECT_TRUE(boxes.empty());
  }
}

TEST(RandomErasing, NoiseIsNormalAndOfItsKey) {
  constexpr std::int64_t kSide = 100;
  const auto erased = [](std::uint64_t key) {
    std::vector<float> image(3 * kSide * kSide, 7.0f);
    erase({{0, 0, kSide, kSide}, key}, EraseMode::kPixel, 3, kSide, kSide, image);
    return image;
  };
  const std::vector<float> noise = erased(5);
  EXPECT_EQ(noise, erased(5));
  EXPECT_NE(noise, erased(6));
  EXPECT_TRUE(is_distributed({noise.begin(), noise.end()}, normal_share_below));
}

TEST(RandomErasing, OnlyTheBoxChanges) {
  std::vector<float> image(3 * 20 * 30, 7.0f);
  erase({{4, 6, 9, 11}, 5}, EraseMode::kConst, 3, 20, 30, image);
  for (std::int64_t i = 0; i < 3 * 20 * 30; ++i) {
    const std::int64_t y = i / 30 % 20, x = i % 30;
    const bool inside = y >= 4 && y < 13 && x >= 6 && x < 17;
    ASSERT_EQ(image[i], inside ? 0.0f : 7.0f) << "row " << y << ", column " << x;
  }
  EXPECT_THROW(erase({{0, 0, 1, 1}, 5}, EraseMode::kConst, 1, 20, 30, image), std::logic_error);
}

TEST(RandomResizedCrop, AreaRatioAndPlaceAreUniform) {
  Shares shares;
  for (const Region& region : draw_many([](KeyedRandom& random) {
         return draw_random_resized_crop(kLargeHeight, kLargeWidth, 0.08, 0.4, 3.0 / 4, 4.0 / 3, random);
       })) {
    shares.add(region);
  }
  EXPECT_TRUE(is_uniform(shares.area, 0.08, 0.4));
  EXPECT_TRUE(is_uniform(shares.log_ratio, std::log(3.0 / 4), std::log(4.0 / 3)));
  EXPECT_TRUE(is_uniform(shares.top, 0, 1));
  EXPECT_TRUE(is_uniform(shares.left, 0, 1));
}

TEST(RandomResizedCrop, WithoutAFitTakesTheLargestCentreCropInRange) {
  const auto crop = [](std::int64_t height, std::int64_t width, double ratio_min, double ratio_max) {
    KeyedRandom random(1, Purpose::kTest, 0, 0);
    return draw_random_resized_crop(height, width, 0.95, 1, ratio_min, ratio_max, random);
  };
  EXPECT_EQ(crop(900, 40, 3.0 / 4, 4.0 / 3), (Region{423, 0, 53, 40}));
  EXPECT_EQ(crop(40, 900, 3.0 / 4, 4.0 / 3), (Region{0, 423, 40, 53}));
  EXPECT_EQ(crop(100, 100, 0.25, 0.25), (Region{0, 37, 100, 25}));
  EXPECT_EQ(crop(1, 1, 5, 6), (Region{0, 0, 1, 1}));  // never empty
}

}  // namespace
}  // namespace cosub::data
