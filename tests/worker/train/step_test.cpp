// One step against the same computation without microbatches.
#include "worker/train/step.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
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
    optimizer_.emplace(stage_.optimizer, state_->num_decayed(), state_->num_parameters());
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
    return step.run(
        0, [&next] { return *next++; }, learning_rate, word);
  }

  testing::TemporaryFolder folder_;
  config::StageConfig stage_;
  std::shared_ptr<model::Backbone> model_;
  std::optional<FlatState> state_;
  std::optional<AdamW> optimizer_;
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

}  // namespace
}  // namespace cosub::train
