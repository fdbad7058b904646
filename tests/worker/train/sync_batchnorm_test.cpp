// sync_batchnorm: 2 on one pair of ranks or two: run under mpirun with 2 and 4 ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/distance.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/collective/mpi_world.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/data/loader.h"
#include "worker/train/agreement.h"
#include "worker/train/step.h"
#include "worker/train/stop_flag.h"
#include "worker/train/trainer.h"

namespace cosub::train {
namespace {

using testing::distance;
using ::testing::HasSubstr;
using testing::world;

/// What a step leaves behind.
struct Outcome {
  double loss = 0;
  at::Tensor gradients, values;  // values: parameters, as they were, and running statistics
};

class SyncBatchnorm : public ::testing::Test {
 protected:
  SyncBatchnorm() : pair_(world().split(world().rank() / 2, "pairs")) {}
  ~SyncBatchnorm() override { clear_stop(); }

  void SetUp() override {
    data_ = shared(world()) / "data";
    if (world().rank() == 0) testing::toy_stage(data_, data_, testing::toy_resnet(), 1);
    world().barrier("the samples");
  }

  /// Rank 0's folder is used by all.
  void TearDown() override { world().barrier("the end of the test"); }

  /// A folder that all ranks of `communicator` see.
  std::filesystem::path shared(collective::Communicator& communicator) {
    return text_of_rank_0(communicator, folder_.path().string(), "shared folder");
  }

  /// 6 microbatches a step: three bundles, uneven for two pairs.
  config::StageFile stage(const std::filesystem::path& stage_folder) {
    config::StageFile file = testing::toy_stage(folder_ / "own", stage_folder, testing::toy_resnet(), 2);
    for (auto* idx : {&*file.stage.data.train.idx, &*file.stage.data.val.idx}) {
      idx->images = data_ / idx->images.filename();
      idx->labels = data_ / idx->labels.filename();
    }
    file.stage.batch = {.global = 24, .micro = 4};
    file.stage.sync_batchnorm = 2;
    return file;
  }

  /// A stage in which it does not matter which images share a microbatch, but for BatchNorm.
  config::StageConfig plain_stage() {
    config::StageConfig plain = stage(folder_ / "plain").stage;
    plain.model.drop_rate = 0;
    plain.data.mix = {};
    return plain;
  }

  static Outcome run_step(const config::StageConfig& stage, collective::Communicator& communicator,
                          bool recompute = false) {
    const std::shared_ptr<const data::Source> source =
        data::open_source(stage.data.train, stage.model.channels, stage.model.classes);
    const auto model = model::create(stage.model, 5);
    model->seam().set_recompute(recompute);
    FlatState state(*model);
    const auto optimizer = make_optimizer(stage.optimizer, state);
    PhaseClock clock;
    TrainStep step({.model = *model,
                    .state = state,
                    .optimizer = *optimizer,
                    .ema = nullptr,
                    .communicator = communicator,
                    .clock = clock},
                   stage, 1);
    data::TrainLoader loader(
        source, {.data = stage.data,
                 .targets = stage.cosub.targets,
                 .classes = stage.model.classes,
                 .image_size = stage.model.image_size,
                 .stream = 1,
                 .plan = {.size = source->size(), .global = stage.batch.global, .micro = stage.batch.micro},
                 .first_step = 0,
                 .end_step = 1,
                 .begin = step.own_microbatches().begin,
                 .end = step.own_microbatches().end,
                 .stride = step.own_microbatches().stride});
    const StepOutcome outcome =
        step.run(0, [&loader] { return loader.next(); }, /*learning_rate=*/0.0, {}).value();
    return {outcome.loss, step.vector().narrow(0, 0, state.num_parameters()).clone(), state.values().clone()};
  }

  static std::string run(const config::StageFile& file, collective::Communicator& communicator) {
    testing::ToyJob job(file, communicator);
    Trainer trainer = job.trainer();
    trainer.run();
    return trainer.state().hash();
  }

  static std::string refusal(const config::StageFile& file, collective::Communicator& communicator) {
    testing::ToyJob job(file, communicator);
    try {
      job.trainer();
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
      return error.what();
    }
    return "accepted";
  }

  testing::TemporaryFolder folder_;
  std::filesystem::path data_;
  collective::SingleCommunicator alone_;
  std::unique_ptr<collective::Communicator> pair_;
};

TEST_F(SyncBatchnorm, EqualsMicrobatchesOfTwiceTheSizeOnOneRank) {
  config::StageConfig twice = plain_stage();
  twice.sync_batchnorm = 1;
  twice.batch.micro *= 2;
  const Outcome expected = run_step(twice, alone_);
  for (const config::Reduction reduction : {config::Reduction::kOrdered, config::Reduction::kFast}) {
    config::StageConfig together = plain_stage();
    together.reduction = reduction;
    const Outcome found = run_step(together, world());
    EXPECT_NEAR(found.loss, expected.loss, 1e-6);
    EXPECT_LT(distance(found.gradients, expected.gradients), 1e-5);
    EXPECT_LT(distance(found.values, expected.values), 1e-6);
  }
  // Otherwise the test above could not fail.
  config::StageConfig each = plain_stage();
  each.sync_batchnorm = 1;
  const Outcome other = run_step(each, alone_);
  EXPECT_GT(distance(other.gradients, expected.gradients), 1e-2);
  EXPECT_GT(distance(other.values, expected.values), 1e-4);
}

TEST_F(SyncBatchnorm, GivesTheSameBitsWhenBranchesAreComputedAgain) {
  const config::StageConfig drops = stage(folder_ / "drops").stage;
  const Outcome once = run_step(drops, world()), again = run_step(drops, world(), /*recompute=*/true);
  EXPECT_TRUE(at::equal(again.gradients, once.gradients));
  EXPECT_TRUE(at::equal(again.values, once.values));
}

/// To find the microbatch at fault, each is looked at without the others of its group.
TEST_F(SyncBatchnorm, AMicrobatchThatIsNotFiniteDoesNotMakeItsNeighboursSo) {
  const config::StageConfig plain = plain_stage();
  const auto model = model::create(plain.model, 5);
  FlatState state(*model);
  const auto optimizer = make_optimizer(plain.optimizer, state);
  PhaseClock clock;
  TrainStep step({.model = *model,
                  .state = state,
                  .optimizer = *optimizer,
                  .ema = nullptr,
                  .communicator = world(),
                  .clock = clock},
                 plain, 1);
  const bool is_at_fault = world().rank() % 2 == 1;
  data::Microbatch batch{.step = 0,
                         .index = world().rank(),
                         .images = at::arange(4 * 28 * 28, at::kFloat).sin().view({4, 1, 28, 28}),
                         .targets = at::eye(4)};
  if (is_at_fault) batch.images[0].fill_(std::numeric_limits<float>::infinity());
  EXPECT_EQ(step.is_finite(batch), !is_at_fault);
  // And they are a group again.
  batch.index = step.own_microbatches().begin - step.own_microbatches().stride;
  const auto next = [&] {
    batch.index += step.own_microbatches().stride;
    return batch;
  };
  EXPECT_THROW(step.run(0, next, /*learning_rate=*/0.0, {}), NonFiniteError);
}

TEST_F(SyncBatchnorm, GivesTheSameBitsOnOnePairAndOnTwo) {
  const std::string of_pair = run(stage(shared(*pair_) / "pair"), *pair_);
  EXPECT_EQ(run(stage(shared(world()) / "world"), world()), of_pair);
  config::StageFile each = stage(shared(*pair_) / "each");
  each.stage.sync_batchnorm = 1;
  EXPECT_NE(run(each, *pair_), of_pair);
}

TEST_F(SyncBatchnorm, GoesOnFromACheckpointOfAnotherNumberOfPairs) {
  const std::string whole = run(stage(shared(*pair_) / "whole"), *pair_);
  const std::filesystem::path folder = shared(world()) / "handed-over";
  if (world().rank() < 2) {
    request_stop();
    run(stage(folder), *pair_);  // one step
    clear_stop();
  }
  world().barrier("the first part");
  EXPECT_EQ(run(stage(folder), world()), whole);
}

TEST_F(SyncBatchnorm, RefusesRanksThatDoNotFillTheGroups) {
  config::StageFile file = stage(shared(world()) / "refused");
  file.stage.sync_batchnorm = 3;
  const std::string message = refusal(file, world());
  EXPECT_THAT(message, HasSubstr("sync_batchnorm: found 3 with " + std::to_string(world().world_size())));
  EXPECT_THAT(message, HasSubstr("allowed: a multiple of 3 ranks, up to 6"));
  EXPECT_THAT(message, HasSubstr("mpirun -n"));
  EXPECT_THROW(run_step(stage(folder_ / "alone").stage, alone_), ConfigError);
}

TEST_F(SyncBatchnorm, RefusesMicrobatchesThatDoNotFillTheBundles) {
  config::StageFile file = stage(shared(world()) / "refused");
  file.stage.sync_batchnorm = 4;
  EXPECT_THAT(refusal(file, world()), HasSubstr("sync_batchnorm: found 4 with 6 microbatches a step"));
}

TEST_F(SyncBatchnorm, RefusesBranchesThatMayKeepNoRow) {
  config::StageFile file = stage(shared(world()) / "refused");
  file.stage.model.stochastic_depth = config::StochasticDepth::kBernoulli;
  EXPECT_THAT(refusal(file, world()),
              HasSubstr("model.stochastic_depth: found bernoulli with sync_batchnorm 2"));
}

}  // namespace
}  // namespace cosub::train
