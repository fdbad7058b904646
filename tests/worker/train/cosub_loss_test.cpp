#include "worker/train/cosub_loss.h"

#include <gtest/gtest.h>

namespace cosub::train {
namespace {

constexpr std::int64_t kImages = 5, kClasses = 4;

config::CosubConfig options(config::LossKind loss,
                            config::BceReduction reduction = config::BceReduction::kMean) {
  config::CosubConfig config;
  config.loss = loss;
  config.bce_reduction = reduction;
  return config;
}

struct Microbatch {
  Microbatch() {
    at::manual_seed(4);
    logits = at::randn({2 * kImages, kClasses}, at::kDouble).set_requires_grad(true);
    targets = at::softmax(at::randn({kImages, kClasses}, at::kDouble), 1);
  }
  at::Tensor logits, targets;
};

/// L(z, y) written out by its definition.
at::Tensor by_definition(const at::Tensor& z, const at::Tensor& y, const config::CosubConfig& config) {
  if (config.loss == config::LossKind::kCe) return -(y * (z - z.logsumexp(1, true))).sum(1).mean();
  const at::Tensor p = at::sigmoid(z);
  const at::Tensor terms = -(y * p.log() + (1 - y) * (1 - p).log());
  return config.bce_reduction == config::BceReduction::kMean ? terms.mean() : terms.sum(1).mean();
}

/// The formula in the header, term by term.
at::Tensor four_terms(const at::Tensor& z1, const at::Tensor& z2, const at::Tensor& y,
                      const config::CosubConfig& config, double lambda) {
  const auto p = [&](const at::Tensor& z) {
    return (config.loss == config::LossKind::kBce ? at::sigmoid(z) : at::softmax(z, 1)).detach();
  };
  return (1 - lambda) / 2 * (by_definition(z1, y, config) + by_definition(z2, y, config)) +
         lambda / 2 * (by_definition(z1, p(z2), config) + by_definition(z2, p(z1), config));
}

at::Tensor gradient(const at::Tensor& loss, at::Tensor& logits) {
  logits.mutable_grad() = at::Tensor();
  loss.backward();
  return logits.grad().clone();
}

TEST(CosubLoss, EqualsItsFourTermsInValueAndGradient) {
  Microbatch batch;
  const std::vector<config::CosubConfig> kinds = {
      options(config::LossKind::kCe), options(config::LossKind::kBce),
      options(config::LossKind::kBce, config::BceReduction::kSum)};
  for (const config::CosubConfig& kind : kinds) {
    for (const double lambda : {0.0, 0.3, 0.5, 1.0}) {
      const at::Tensor ours = cosub_loss(batch.logits, batch.targets, kind, lambda);
      const at::Tensor reference =
          four_terms(batch.logits.narrow(0, 0, kImages), batch.logits.narrow(0, kImages, kImages),
                     batch.targets, kind, lambda);
      EXPECT_NEAR(ours.item<double>(), reference.item<double>(), 1e-12);
      EXPECT_TRUE(
          at::allclose(gradient(ours, batch.logits), gradient(reference, batch.logits), 1e-10, 1e-14));
    }
  }
}

TEST(CosubLoss, SwappingTheHalvesChangesNothing) {
  Microbatch batch;
  for (const auto kind : {config::LossKind::kBce, config::LossKind::kCe}) {
    const at::Tensor one = cosub_loss(batch.logits, batch.targets, options(kind), 0.5);
    const at::Tensor other = cosub_loss(batch.logits.roll(kImages, 0), batch.targets, options(kind), 0.5);
    EXPECT_NEAR(one.item<double>(), other.item<double>(), 1e-14);
    EXPECT_TRUE(at::allclose(gradient(one, batch.logits), gradient(other, batch.logits), 1e-12, 1e-14));
  }
}

TEST(CosubLoss, HalvesAreContiguousNotNeighbours) {
  Microbatch batch;
  for (const auto kind : {config::LossKind::kBce, config::LossKind::kCe}) {
    const at::Tensor ours = cosub_loss(batch.logits, batch.targets, options(kind), 0.5);
    const at::Tensor rows = at::arange(2 * kImages, at::kLong);
    const at::Tensor first = batch.logits.index_select(0, rows.slice(0, 0, 2 * kImages, 2));
    const at::Tensor second = batch.logits.index_select(0, rows.slice(0, 1, 2 * kImages, 2));
    const at::Tensor mistaken = four_terms(first, second, batch.targets, options(kind), 0.5);
    EXPECT_GT(std::abs(ours.item<double>() - mistaken.item<double>()), 1e-3);
  }
}

TEST(CosubLoss, TheOtherSubmodelIsATargetNotAPath) {
  Microbatch batch;
  // At lambda 1 with bce the gradient of z1 is (p(z1) - p(z2)) / (2 B C): a path through p(z2) would add to
  // z2's.
  const at::Tensor loss = cosub_loss(batch.logits, batch.targets, options(config::LossKind::kBce), 1.0);
  const at::Tensor p = at::sigmoid(batch.logits.detach());
  const at::Tensor expected = (p - p.roll(kImages, 0)) / static_cast<double>(2 * kImages * kClasses);
  EXPECT_TRUE(at::allclose(gradient(loss, batch.logits), expected, 1e-10, 1e-14));
}

TEST(CosubLoss, SwitchedOffIsThePlainLossOfOneView) {
  Microbatch batch;
  config::CosubConfig off = options(config::LossKind::kCe);
  off.enabled = false;
  const at::Tensor z = batch.logits.narrow(0, 0, kImages);
  EXPECT_NEAR(cosub_loss(z, batch.targets, off, 0.5).item<double>(),
              by_definition(z, batch.targets, off).item<double>(), 1e-12);
}

TEST(CosubLoss, RefusesTargetsOfAnotherShape) {
  Microbatch batch;
  EXPECT_ANY_THROW(cosub_loss(batch.logits, at::cat({batch.targets, batch.targets}), {}, 0.5));
  EXPECT_ANY_THROW(cosub_loss(batch.logits, batch.targets.narrow(1, 0, 2), {}, 0.5));
}

}  // namespace
}  // namespace cosub::train
