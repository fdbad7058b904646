// A step of every family with its microbatches on several ranks, accumulated where a rank has more than one:
// run under mpirun with 2, 3 and 4 ranks. Each rank first takes the steps alone, in this process (whose
// losses and gradients tests/parity/step_test.py compares with timm's), then all take them together.
#include <gtest/gtest.h>

#include <limits>

#include "tests/worker/collective/mpi_world.h"
#include "tests/worker/model/models.h"
#include "worker/collective/single_communicator.h"
#include "worker/tools/step_rig.h"

namespace cosub::train {
namespace {

using testing::world;

constexpr std::int64_t kMicrobatches = 12;  // of a step

struct Taken {
  std::vector<double> losses, norms;
  std::vector<bool> skipped;
  at::Tensor parameters;
};

class FamiliesRanks : public ::testing::TestWithParam<config::ModelConfig> {
 protected:
  static tools::StepRig make_rig(config::Reduction reduction, collective::Communicator& communicator) {
    config::StageConfig stage;
    stage.name = "steps";
    stage.model = GetParam();
    stage.model.drop_rate = 0.5;
    stage.model.drop_rate_rule = config::DropRateRule::kUniform;
    stage.batch.micro = 4;
    stage.reduction = reduction;
    stage.optimizer.lr = 1e-3;
    stage.non_finite = config::NonFinite::kSkip;
    return {stage, kMicrobatches / communicator.world_size(), 7, {}, communicator, at::kCPU};
  }

  static at::Tensor numbers_of(model::Backbone& model) {
    std::vector<at::Tensor> all;
    for (const at::Tensor& parameter : model.parameters()) all.push_back(parameter.detach().flatten());
    for (const at::Tensor& buffer : model.buffers()) all.push_back(buffer.flatten().to(at::kFloat));
    return at::cat(all);
  }

  static void take_step(tools::StepRig& rig, Taken& taken) {
    const StepOutcome outcome = rig.run();
    taken.losses.push_back(outcome.loss);
    taken.norms.push_back(outcome.gradient_norm);
    taken.skipped.push_back(outcome.skipped);
  }

  /// Two steps, of which the second starts from what the first has changed.
  static Taken take_steps(config::Reduction reduction, collective::Communicator& communicator) {
    tools::StepRig rig = make_rig(reduction, communicator);
    Taken taken;
    for (int step = 0; step < 2; ++step) take_step(rig, taken);
    taken.parameters = numbers_of(rig.model());
    return taken;
  }

  /// Two steps, of which the first meets infinite pixels in the last microbatch, which the last rank has.
  static Taken take_steps_after_infinity(config::Reduction reduction,
                                         collective::Communicator& communicator) {
    tools::StepRig rig = make_rig(reduction, communicator);
    const at::Tensor before = numbers_of(rig.model());
    const at::Tensor& pixels = rig.microbatches().back().images;
    const at::Tensor good = pixels.clone();
    if (communicator.rank() == communicator.world_size() - 1)
      pixels.fill_(std::numeric_limits<float>::infinity());
    Taken taken;
    take_step(rig, taken);
    EXPECT_TRUE(at::equal(numbers_of(rig.model()), before));
    pixels.copy_(good);
    take_step(rig, taken);
    taken.parameters = numbers_of(rig.model());
    return taken;
  }

  collective::SingleCommunicator alone_;
};

TEST_P(FamiliesRanks, OrderedSumsGiveTheBitsOfOneRank) {
  const Taken one = take_steps(config::Reduction::kOrdered, alone_);
  const Taken together = take_steps(config::Reduction::kOrdered, world());
  EXPECT_EQ(together.losses, one.losses);
  EXPECT_EQ(together.norms, one.norms);
  EXPECT_TRUE(at::equal(together.parameters, one.parameters));
}

TEST_P(FamiliesRanks, FastSumsDifferByRoundingAlone) {
  const Taken one = take_steps(config::Reduction::kOrdered, alone_);
  const Taken together = take_steps(config::Reduction::kFast, world());
  EXPECT_NEAR(together.losses[0], one.losses[0], 1e-6 * one.losses[0]);
  EXPECT_NEAR(together.norms[0], one.norms[0], 1e-5 * one.norms[0]);
  EXPECT_NEAR(together.losses[1], one.losses[1], 1e-4 * one.losses[1]);
}

TEST_P(FamiliesRanks, AllLeaveOutAStepThatIsNotFiniteOnOneOfThem) {
  const std::vector<bool> only_the_first{true, false};
  const Taken one = take_steps_after_infinity(config::Reduction::kOrdered, alone_);
  const Taken together = take_steps_after_infinity(config::Reduction::kOrdered, world());
  EXPECT_EQ(together.skipped, only_the_first);
  EXPECT_EQ(together.losses[1], one.losses[1]);
  EXPECT_TRUE(at::equal(together.parameters, one.parameters));
  EXPECT_EQ(take_steps_after_infinity(config::Reduction::kFast, world()).skipped, only_the_first);
}

INSTANTIATE_TEST_SUITE_P(Families, FamiliesRanks, ::testing::ValuesIn(model::small_models()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace cosub::train
