// The parts of an update, against their formulas in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "worker/train/ema.h"
#include "worker/train/optimizer.h"
#include "worker/train/schedule.h"

namespace cosub::train {
namespace {

at::Tensor ramp(std::int64_t n, double scale, double offset) {
  return (at::arange(n, at::kDouble) * scale).sin().add(offset).to(at::kFloat);
}

/// One decayed group before one without decay, a parameter each.
std::unique_ptr<Optimizer> optimizer_of(const config::OptimizerConfig& options, const at::Tensor& values,
                                        std::int64_t decayed) {
  const std::int64_t size = values.numel();
  std::vector<ParameterGroup> groups;
  groups.push_back({0, decayed, 1.0, true, {{"a", values.narrow(0, 0, decayed), 0, decayed}}});
  if (decayed < size)
    groups.push_back({decayed,
                      size,
                      1.0,
                      false,
                      {{"b", values.narrow(0, decayed, size - decayed), decayed, size - decayed}}});
  return make_optimizer(options, groups, values);
}

TEST(AdamW, FollowsTheFormulaWithDecayOnTheFirstPartOnly) {
  constexpr std::int64_t kSize = 37, kDecayed = 21;
  config::OptimizerConfig options{.lr = 0, .weight_decay = 0.1, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6};
  at::Tensor values = ramp(kSize, 0.7, 0.2);
  const auto optimizer = optimizer_of(options, values, kDecayed);
  at::Tensor p = values.to(at::kDouble), m = at::zeros_like(p), v = at::zeros_like(p);
  for (std::int64_t step = 0; step < 5; ++step) {
    double lr = 0.01 * static_cast<double>(step + 1);
    at::Tensor gradients = ramp(kSize, 1.3 + 0.1 * static_cast<double>(step), 0.1);
    optimizer->update(values, gradients, step, lr);

    at::Tensor g = gradients.to(at::kDouble);
    double t = static_cast<double>(step + 1);
    p.narrow(0, 0, kDecayed).mul_(1 - lr * options.weight_decay);
    m = options.beta1 * m + (1 - options.beta1) * g;
    v = options.beta2 * v + (1 - options.beta2) * g * g;
    at::Tensor m_hat = m / (1 - std::pow(options.beta1, t)), v_hat = v / (1 - std::pow(options.beta2, t));
    p = p - lr * m_hat / (v_hat.sqrt() + options.eps);
  }
  EXPECT_LT((values.to(at::kDouble) - p).abs().max().item<double>(), 1e-6);
  EXPECT_LT((optimizer->state().at("exp_avg").to(at::kDouble) - m).abs().max().item<double>(), 1e-6);
  EXPECT_LT((optimizer->state().at("exp_avg_sq").to(at::kDouble) - v).abs().max().item<double>(), 1e-6);
}

TEST(Optimizers, LeavePaddingAtZero) {
  for (const char* name : {"adamw", "lamb", "sgd"}) {
    at::Tensor values = at::zeros({16}), gradients = at::zeros({16});
    const auto optimizer = optimizer_of({.name = name, .weight_decay = 0.1}, values, 16);
    for (std::int64_t step = 0; step < 3; ++step) optimizer->update(values, gradients, step, 0.1);
    EXPECT_TRUE(values.equal(at::zeros({16}))) << name;
  }
}

TEST(Clipping, ScalesToTheNormAsTorchDoes) {
  at::Tensor gradients = at::full({4}, 3.0f);
  double norm = global_norm(gradients);
  EXPECT_DOUBLE_EQ(norm, 6.0);
  clip_to_norm(gradients, norm, 1.5);
  EXPECT_NEAR(global_norm(gradients), 1.5 * 6 / (6 + 1e-6), 1e-6);
}

TEST(Norm, IsSummedInDoubleWhateverTheLength) {
  for (const std::int64_t size : {0, 1, 31, 33, 65'536, 200'001}) {
    const at::Tensor gradients = ramp(size, 0.37, 0.1);
    const double exact = gradients.to(at::kDouble).norm().item<double>();
    EXPECT_NEAR(global_norm(gradients), exact, 1e-12 * exact) << size;
    EXPECT_NEAR(norm_of(gradients).item<double>(), exact, 1e-12 * exact) << size;
  }
}

TEST(Norm, BeyondTheLargestFloatSquareIsFiniteAndOfInfinityIsNot) {
  EXPECT_NEAR(global_norm(at::full({4}, 1e30F)), 2e30, 1e24);
  EXPECT_FALSE(std::isfinite(global_norm(at::tensor({1.0F, INFINITY, 2.0F}))));
  EXPECT_TRUE(std::isnan(global_norm(at::tensor({1.0F, NAN, 2.0F}))));
}

TEST(Clipping, LeavesShortGradientsAndZeroLimitAlone) {
  at::Tensor gradients = at::full({4}, 3.0f);
  clip_to_norm(gradients, 6.0, 6.5);
  clip_to_norm(gradients, 6.0, 0);
  EXPECT_TRUE(gradients.equal(at::full({4}, 3.0f)));
}

TEST(Ema, FollowsTheDecayWithWarmUp) {
  Ema ema(at::zeros({3}), 0.9, true);
  EXPECT_DOUBLE_EQ(ema.decay_at(0), 0.1);
  EXPECT_DOUBLE_EQ(ema.decay_at(10), 11.0 / 20.0);
  EXPECT_DOUBLE_EQ(ema.decay_at(100000), 0.9);
  ema.update(at::ones({3}), 0);
  EXPECT_NEAR(ema.average()[0].item<double>(), 0.9, 1e-7);
  ema.update(at::full({3}, 2.0f), 1);
  double decay = 2.0 / 11.0;
  EXPECT_NEAR(ema.average()[0].item<double>(), decay * 0.9 + (1 - decay) * 2, 1e-6);
}

TEST(Ema, HasTheFullDecayAtOnceWithoutWarmUp) {
  EXPECT_DOUBLE_EQ(Ema(at::zeros({1}), 0.99, false).decay_at(0), 0.99);
}

TEST(SwappedValues, GivesBackEveryBit) {
  at::Tensor values = ramp(11, 0.9, 0), before = values.clone();
  {
    SwappedValues swapped(values, at::ones({11}));
    EXPECT_TRUE(values.equal(at::ones({11})));
  }
  EXPECT_TRUE(values.equal(before));
}

TEST(Schedule, IsTimmsCosineWithWarmUp) {
  // timm: CosineLRScheduler(opt, t_initial=100, lr_min=1e-5, warmup_t=20, warmup_lr_init=1e-6,
  // t_in_epochs=False)
  Schedule schedule({.name = "cosine", .epochs = 10, .warmup_epochs = 2, .warmup_lr = 1e-6, .min_lr = 1e-5},
                    1e-3, 10);
  EXPECT_EQ(schedule.total_steps(), 100);
  EXPECT_EQ(schedule.warmup_steps(), 20);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(0), 1e-6);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(10), 1e-6 + 10 * (1e-3 - 1e-6) / 20);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(50), 1e-5 + 0.5 * (1e-3 - 1e-5));
  EXPECT_DOUBLE_EQ(schedule.learning_rate(99),
                   1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + std::cos(std::numbers::pi * 0.99)));
  EXPECT_DOUBLE_EQ(schedule.learning_rate(100), 1e-5);
}

TEST(Schedule, ConstantStaysAfterWarmUp) {
  Schedule schedule({.name = "constant", .epochs = 2, .warmup_epochs = 1, .warmup_lr = 0}, 0.5, 4);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(2), 0.25);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(4), 0.5);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(7), 0.5);
}

TEST(Schedule, RoundsFractionsOfAnEpochToSteps) {
  EXPECT_EQ(Schedule({.epochs = 0.5}, 1, 9).total_steps(), 5);
  EXPECT_EQ(Schedule({.epochs = 0.001}, 1, 9).total_steps(), 1);
}

TEST(Schedule, LinearAndStepFollowTheirFormulas) {
  const config::ScheduleConfig linear{
      .name = "linear", .epochs = 10, .warmup_epochs = 1, .warmup_lr = 0, .min_lr = 0.1};
  EXPECT_DOUBLE_EQ(Schedule(linear, 1.1, 20).learning_rate(10), 0.55);
  EXPECT_DOUBLE_EQ(Schedule(linear, 1.1, 20).learning_rate(50), 0.1 + 0.75);
  EXPECT_DOUBLE_EQ(Schedule(linear, 1.1, 20).learning_rate(200), 0.1);
  const config::ScheduleConfig steps{.name = "step", .epochs = 10, .decay_epochs = 2.5, .decay_rate = 0.5};
  EXPECT_DOUBLE_EQ(Schedule(steps, 8, 20).learning_rate(49), 8);
  EXPECT_DOUBLE_EQ(Schedule(steps, 8, 20).learning_rate(50), 4);
  EXPECT_DOUBLE_EQ(Schedule(steps, 8, 20).learning_rate(199), 1);
}

TEST(Schedule, LambdaRisesToItsValue) {
  const config::CosubConfig options{.lambda = 0.5, .lambda_start = 0.1, .lambda_warmup_epochs = 2};
  EXPECT_DOUBLE_EQ(lambda_at(options, 10, 0), 0.1);
  EXPECT_DOUBLE_EQ(lambda_at(options, 10, 5), 0.2);
  EXPECT_DOUBLE_EQ(lambda_at(options, 10, 20), 0.5);
  EXPECT_DOUBLE_EQ(lambda_at({.lambda = 0.3}, 10, 0), 0.3);
}

}  // namespace
}  // namespace cosub::train
