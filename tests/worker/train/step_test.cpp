// One step against the same computation without microbatches.
#include "worker/train/step.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/model/models.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/train/cosub_loss.h"

namespace cosub::train {
namespace {

class Step : public ::testing::Test {
 protected:
  Step() : stage_(testing::toy_stage(folder_.path(), folder_ / "stage", testing::toy_vit(), 1).stage) {
    stage_.cosub.enabled = false;
    stage_.model.drop_rate = 0;
    stage_.optimizer.clip_norm = 0;
    model_ = model::create(stage_.model, 5);
    state_.emplace(*model_);
    optimizer_ = make_optimizer(stage_.optimizer, *state_);
    for (std::int64_t m = 0; m < 4; ++m) {
      at::Tensor images =
          (at::arange(4 * 14 * 14, at::kFloat) * 0.37 + static_cast<double>(m)).sin().view({4, 1, 14, 14});
      at::Tensor targets = at::one_hot((at::arange(4) + m).remainder(4), 4).to(at::kFloat);
      batches_.push_back({.step = 0,
                          .index = m,
                          .images = images,
                          .targets = targets,
                          .bad = std::vector<data::BadSample>(m)});
    }
  }

  TrainStep make_step() {
    return TrainStep({.model = *model_,
                      .state = *state_,
                      .optimizer = *optimizer_,
                      .ema = nullptr,
                      .communicator = alone_,
                      .clock = clock_},
                     stage_, 1);
  }

  StepOutcome run(TrainStep& step, double learning_rate, Word word = {}) {
    auto next = batches_.begin();
    return step
        .run(
            0, [&next] { return *next++; }, learning_rate, word)
        .value();
  }

  testing::TemporaryFolder folder_;
  config::StageConfig stage_;
  std::shared_ptr<model::Backbone> model_;
  std::optional<FlatState> state_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<data::Microbatch> batches_;
  collective::SingleCommunicator alone_;
  PhaseClock clock_;
};

TEST_F(Step, GivesTheGradientOfTheMeanOverTheGlobalBatch) {
  TrainStep step = make_step();
  StepOutcome outcome = run(step, 0);

  auto whole = model::create(stage_.model, 5);
  whole->train();
  std::vector<at::Tensor> images, targets;
  for (const data::Microbatch& batch : batches_) {
    images.push_back(batch.images);
    targets.push_back(batch.targets);
  }
  at::Tensor wanted = at::cat(targets);
  whole->seam().begin({.kind = model::Pass::Kind::kFull, .images = 16});
  at::Tensor logits = whole->forward(at::cat(images));
  at::Tensor loss = cosub_loss(logits, wanted, stage_.cosub, 0);
  loss.backward();

  EXPECT_NEAR(outcome.loss, loss.item<double>(), 1e-6);
  EXPECT_DOUBLE_EQ(outcome.correct, logits.argmax(1).eq(wanted.argmax(1)).sum().item<double>());
  EXPECT_EQ(outcome.images, 16);
  EXPECT_EQ(outcome.bad_samples, 0 + 1 + 2 + 3);
  auto parameters = whole->named_parameters();
  for (const Slot& slot : state_->parameters()) {
    at::Tensor mine = FlatState::view(step.vector(), slot), theirs = parameters[slot.name].grad();
    EXPECT_LT((mine - theirs).norm().item<double>(), 1e-5 * theirs.norm().item<double>() + 1e-7) << slot.name;
  }
}

/// As `targets: binarize` leaves them: both classes of a mixed image are right.
TEST_F(Step, CountsEveryLargestClassOfATargetAsCorrect) {
  for (data::Microbatch& batch : batches_) batch.targets = at::ones({4, 4});
  TrainStep step = make_step();
  EXPECT_EQ(run(step, 0).correct, 16);
  for (data::Microbatch& batch : batches_)
    batch.targets = at::tensor({0.1f, 1.0f, 1.0f, 0.1f}).repeat({4, 1});
  double wanted = 0;
  for (const data::Microbatch& batch : batches_) {
    model_->seam().begin({.kind = model::Pass::Kind::kFull, .images = 4});
    const at::Tensor predicted = model_->forward(batch.images).argmax(1);
    wanted += predicted.eq(1).logical_or(predicted.eq(2)).sum().item<double>();
  }
  EXPECT_EQ(run(step, 0).correct, wanted);
}

TEST_F(Step, ClipsWhatItReportsUnclipped) {
  stage_.optimizer.clip_norm = 0.01;
  TrainStep step = make_step();
  StepOutcome outcome = run(step, 0);
  EXPECT_GT(outcome.gradient_norm, 0.01);
  EXPECT_NEAR(global_norm(step.vector().narrow(0, 0, state_->num_parameters())), 0.01, 1e-5);
}

TEST_F(Step, CarriesTheWord) {
  TrainStep step = make_step();
  EXPECT_FALSE(run(step, 0).word.stop);
  Word word = run(step, 0, {.stop = true, .checkpoint = false}).word;
  EXPECT_TRUE(word.stop);
  EXPECT_FALSE(word.checkpoint);
  EXPECT_TRUE(run(step, 0, {.stop = false, .checkpoint = true}).word.checkpoint);
}

TEST_F(Step, ChangesNothingWhenTheLossIsNotFinite) {
  batches_[2].images.fill_(std::numeric_limits<float>::infinity());
  std::string before = state_->hash();
  TrainStep step = make_step();
  EXPECT_THROW(run(step, 0.1), NonFiniteError);
  EXPECT_EQ(state_->hash(), before);
}

TEST_F(Step, LeavesOutAndCountsAStepThatIsNotFinite) {
  stage_.non_finite = config::NonFinite::kSkip;
  const at::Tensor good = batches_[2].images.clone();
  batches_[2].images.fill_(std::numeric_limits<float>::infinity());
  std::string before = state_->hash();
  TrainStep step = make_step();
  EXPECT_TRUE(run(step, 0.1).skipped);
  EXPECT_EQ(state_->hash(), before);
  EXPECT_EQ(step.skipped_steps(), 1);
  EXPECT_TRUE(step.is_finite(batches_[1]));
  EXPECT_FALSE(step.is_finite(batches_[2]));
  batches_[2].images = good;
  EXPECT_FALSE(run(step, 0.1).skipped);
  EXPECT_NE(state_->hash(), before);
}

TEST_F(Step, InBfloat16AgreesWithFloat32ToItsPrecision) {
  TrainStep exact = make_step();
  const StepOutcome wanted = run(exact, 0);
  const at::Tensor gradients = exact.vector().clone();
  stage_.precision = config::Precision::kBf16;
  TrainStep rounded = make_step();
  const StepOutcome found = run(rounded, 0);
  EXPECT_NEAR(found.loss, wanted.loss, 0.01 * wanted.loss);
  EXPECT_NE(found.loss, wanted.loss);
  const at::Tensor part = rounded.vector().narrow(0, 0, state_->num_parameters());
  const at::Tensor exact_part = gradients.narrow(0, 0, state_->num_parameters());
  EXPECT_LT((part - exact_part).norm().item<double>(), 0.03 * exact_part.norm().item<double>());
  EXPECT_EQ(part.scalar_type(), at::kFloat);
}

TEST_F(Step, RunsEveryFamilyInBfloat16) {
  for (config::ModelConfig model : model::small_models()) {
    stage_.model = model;
    stage_.model.drop_rate = 0.25;
    stage_.model.drop_rate_rule = config::DropRateRule::kUniform;
    stage_.cosub.enabled = true;
    for (const bool again : {false, true}) {
      stage_.model.activation_checkpointing = again;
      model_ = model::create(stage_.model, 5);
      state_.emplace(*model_);
      optimizer_ = make_optimizer(stage_.optimizer, *state_);
      const std::int64_t size = model.image_size;
      const at::Tensor images = (at::arange(4 * model.channels * size * size, at::kFloat) * 0.37).sin();
      data::Microbatch batch{
          .step = 0,
          .index = 0,
          .images = images.view({4, model.channels, size, size}),
          .targets = at::one_hot(at::arange(4).remainder(model.classes), model.classes).to(at::kFloat)};
      stage_.batch = {.global = 4, .micro = 4};
      stage_.precision = config::Precision::kFp32;
      const double wanted = make_step().run(0, [&] { return batch; }, 0, {})->loss;
      stage_.precision = config::Precision::kBf16;
      EXPECT_NEAR(make_step().run(0, [&] { return batch; }, 0, {})->loss, wanted, 0.03 * wanted)
          << model.name;
    }
  }
}

/// Buckets must be complete when they are told, and told in order.
TEST_F(Step, BucketsAreReadyOneAfterTheOtherDuringTheBackwardPass) {
  std::vector<std::string> order;
  for (const auto& item : model_->named_parameters()) order.push_back(item.key());
  const auto buckets = gradient_buckets(*state_, order, 2000);
  ASSERT_GT(buckets.size(), 5u);
  std::int64_t covered = 0;
  for (const auto& bucket : buckets) covered += bucket.end - bucket.begin;
  EXPECT_EQ(covered, state_->num_parameters());

  at::Tensor gradients = at::zeros({state_->num_parameters()});
  state_->bind_gradients(gradients);
  std::vector<at::Tensor> told;
  GradientReadiness readiness(*state_, buckets, [&](std::size_t b) {
    EXPECT_EQ(b, told.size());
    told.push_back(gradients.narrow(0, buckets[b].begin, buckets[b].end - buckets[b].begin).clone());
  });
  model_->train();
  model_->seam().begin({.kind = model::Pass::Kind::kFull, .images = 4});
  at::Tensor loss = model_->forward(batches_[0].images).square().sum();
  EXPECT_TRUE(told.empty());
  readiness.arm();
  loss.backward();
  EXPECT_GE(told.size(), buckets.size() - 1);
  readiness.finish();
  ASSERT_EQ(told.size(), buckets.size());
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    EXPECT_TRUE(told[b].equal(gradients.narrow(0, buckets[b].begin, buckets[b].end - buckets[b].begin))) << b;
  }
}

}  // namespace
}  // namespace cosub::train
