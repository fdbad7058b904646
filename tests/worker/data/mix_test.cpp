// Mixing as timm.data.Mixup does it. Boxes were recorded from timm 1.0.31 (cutmix_bbox_and_lam with given
// centres); mixed tensors are compared with timm's own lines, written in ATen.
#include "worker/data/mix.h"

#include <ATen/ops/flip.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace cosub::data {
namespace {

using config::Targets;

at::Tensor one_hot(const std::vector<std::int64_t>& labels, std::int64_t classes, double smoothing) {
  const double off = smoothing / static_cast<double>(classes), on = 1.0 - smoothing + off;
  at::Tensor result = at::full({static_cast<std::int64_t>(labels.size()), classes}, off, at::kFloat);
  return result.scatter_(1, at::tensor(labels).unsqueeze(1), on);
}

TEST(Mix, CutmixBoxesEqualTimms) {
  struct Case {
    double lambda;
    std::int64_t size, y, x, top, bottom, left, right;
    double corrected;
  };
  for (const Case& c : std::vector<Case>{{0.5, 28, 14, 14, 5, 24, 5, 24, 0.53954081632653061},
                                         {0.3, 28, 0, 27, 0, 12, 16, 28, 0.81632653061224492},
                                         {0.95, 28, 3, 20, 0, 6, 17, 23, 0.95408163265306123},
                                         {0.01, 32, 31, 31, 16, 32, 16, 32, 0.75},
                                         {0.7, 35, 34, 1, 25, 35, 0, 11, 0.91020408163265309},
                                         {0.999, 28, 5, 5, 5, 5, 5, 5, 1},
                                         {0.0, 28, 10, 20, 0, 24, 6, 28, 0.32653061224489799}}) {
    const Mix mix = cutmix_box(c.lambda, c.size, c.y, c.x);
    EXPECT_EQ(mix.top, c.top);
    EXPECT_EQ(mix.bottom, c.bottom);
    EXPECT_EQ(mix.left, c.left);
    EXPECT_EQ(mix.right, c.right);
    EXPECT_DOUBLE_EQ(mix.lambda, c.corrected);
  }
}

TEST(Mix, MixupEqualsTimmsToTheBit) {
  for (const std::int64_t batch : {1, 2, 5, 8}) {
    const at::Tensor original = at::rand({batch, 2, 3, 3});
    const Mix mix{.kind = Mix::Kind::kMixup, .lambda = 0.3125871};
    at::Tensor expected = original.clone();
    const at::Tensor flipped = expected.flip({0}).mul_(1.0 - mix.lambda);
    expected.mul_(mix.lambda).add_(flipped);
    at::Tensor mixed = original.clone();
    mix_images(mix, mixed);
    EXPECT_TRUE(mixed.equal(expected)) << batch;
  }
}

TEST(Mix, CutmixPastesTheBoxOfTheFlippedBatch) {
  const at::Tensor original = at::rand({5, 3, 8, 8});
  const Mix mix = cutmix_box(0.6, 8, 6, 1);
  at::Tensor expected = original.clone();
  const auto box = [&](const at::Tensor& t) {
    return t.narrow(2, mix.top, mix.bottom - mix.top).narrow(3, mix.left, mix.right - mix.left);
  };
  ASSERT_GT(box(expected).numel(), 0);
  box(expected).copy_(box(original.flip({0})));
  at::Tensor mixed = original.clone();
  mix_images(mix, mixed);
  EXPECT_TRUE(mixed.equal(expected));
  EXPECT_FALSE(mixed.equal(original));
}

TEST(Mix, TargetsEqualTimms) {
  const std::vector<std::int64_t> labels = {3, 0, 0, 2, 1, 3};
  for (const double smoothing : {0.0, 0.1}) {
    const Mix mix{.kind = Mix::Kind::kMixup, .lambda = 0.7};
    const at::Tensor y = one_hot(labels, 4, smoothing);
    const at::Tensor expected = y * 0.7 + y.flip({0}) * (1. - 0.7);
    EXPECT_TRUE(mix_targets(mix, labels, 4, smoothing, Targets::kSoft).equal(expected));
    EXPECT_TRUE(mix_targets({}, labels, 4, smoothing, Targets::kSoft).equal(y));
  }
}

TEST(Mix, BinarizedTargetsAreZeroOrOneBeforeSmoothing) {
  const std::vector<std::int64_t> labels = {3, 0, 0, 2};
  const Mix mix{.kind = Mix::Kind::kCutmix, .lambda = 0.9};
  const at::Tensor expected =
      at::tensor({0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1}, at::kFloat).reshape({4, 4});
  EXPECT_TRUE(mix_targets(mix, labels, 4, 0.0, Targets::kBinarize).equal(expected));
  const at::Tensor smooth = mix_targets(mix, labels, 4, 0.2, Targets::kBinarize);
  EXPECT_TRUE(smooth.allclose(expected * 0.8 + 0.05, 1e-6, 1e-7));
}

TEST(Mix, ABoxThatPastesNothingLeavesTheTargetAlone) {
  const Mix mix = cutmix_box(0.999, 28, 5, 5);
  const at::Tensor targets = mix_targets(mix, {0, 1}, 2, 0.0, Targets::kBinarize);
  EXPECT_TRUE(targets.equal(one_hot({0, 1}, 2, 0)));
}

/// Largest distance between the empirical distribution of `values` and `cdf` (Kolmogorov-Smirnov), times
/// sqrt(n).
double ks_statistic(std::vector<double> values, const std::function<double(double)>& cdf) {
  std::ranges::sort(values);
  const auto n = static_cast<double>(values.size());
  double distance = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto below = static_cast<double>(i);
    distance = std::max(
        {distance, std::abs(cdf(values[i]) - below / n), std::abs(cdf(values[i]) - (below + 1) / n)});
  }
  return distance * std::sqrt(n);
}

TEST(Mix, LambdaFollowsBeta) {
  std::vector<double> uniform, arcsine;
  for (std::int64_t step = 0; step < 4000; ++step) {
    uniform.push_back(draw_mix({.mixup = 1.0}, 28, 5, step, 1).lambda);
    arcsine.push_back(draw_mix({.mixup = 0.5}, 28, 5, step, 1).lambda);
  }
  // 1.95 has probability 0.001 if the distribution is right. Beta(1/2, 1/2) is the arcsine law.
  EXPECT_LT(ks_statistic(uniform, [](double x) { return x; }), 1.95);
  EXPECT_LT(ks_statistic(arcsine, [](double x) { return 2 / M_PI * std::asin(std::sqrt(x)); }), 1.95);
}

TEST(Mix, ProbabilitiesChooseTheKind) {
  const config::MixConfig config{.mixup = 0.8, .cutmix = 1.0, .prob = 0.6, .switch_prob = 0.25};
  int none = 0, mixup = 0, cutmix = 0;
  const int n = 8000;
  for (int microbatch = 0; microbatch < n; ++microbatch) {
    const Mix mix = draw_mix(config, 28, 5, 3, microbatch);
    none += mix.kind == Mix::Kind::kNone;
    mixup += mix.kind == Mix::Kind::kMixup;
    cutmix += mix.kind == Mix::Kind::kCutmix;
  }
  EXPECT_NEAR(none, n * 0.4, 5 * 44);
  EXPECT_NEAR(mixup, n * 0.45, 5 * 45);
  EXPECT_NEAR(cutmix, n * 0.15, 5 * 32);
  EXPECT_EQ(draw_mix({.cutmix = 1.0}, 28, 5, 3, 0).kind, Mix::Kind::kCutmix);
  EXPECT_EQ(draw_mix({}, 28, 5, 3, 0).kind, Mix::Kind::kNone);
}

}  // namespace
}  // namespace cosub::data
