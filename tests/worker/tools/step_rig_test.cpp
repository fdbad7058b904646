#include "worker/tools/step_rig.h"

#include <gtest/gtest.h>

#include "tests/worker/tools/vit_stage.h"
#include "worker/collective/single_communicator.h"

namespace cosub::tools {
namespace {

constexpr int kSteps = 4;

StepRig rig_of(collective::SingleCommunicator& alone, bool late_results) {
  return {
      testing::vit_stage(0.25), /*accumulate=*/1, /*seed=*/1, /*weights=*/{}, alone, at::kCPU, late_results};
}

std::vector<double> losses_one_by_one() {
  collective::SingleCommunicator alone;
  StepRig rig = rig_of(alone, /*late_results=*/false);
  std::vector<double> losses;
  for (int step = 0; step < kSteps; ++step) losses.push_back(rig.run().loss);
  return losses;
}

TEST(StepRig, AheadOfItsResultsItTellsEachStepOnceAndLate) {
  collective::SingleCommunicator alone;
  StepRig rig = rig_of(alone, /*late_results=*/true);
  std::vector<double> losses;
  EXPECT_FALSE(rig.run_ahead().has_value()) << "there was no step before";
  for (int step = 1; step < kSteps; ++step) losses.push_back(rig.run_ahead().value().loss);
  losses.push_back(rig.last().loss);
  EXPECT_EQ(losses, losses_one_by_one());
}

TEST(StepRig, ThatIsAheadCanBeWaitedForAgain) {
  collective::SingleCommunicator alone;
  StepRig rig = rig_of(alone, /*late_results=*/true);
  rig.run_ahead();
  std::vector<double> losses = {rig.last().loss};
  for (int step = 1; step < kSteps; ++step) losses.push_back(rig.run().loss);
  EXPECT_EQ(losses, losses_one_by_one());
}

}  // namespace
}  // namespace cosub::tools
