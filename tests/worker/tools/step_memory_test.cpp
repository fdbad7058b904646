// What training steps take in memory. Counted, not timed, so that a busy machine changes nothing.
#include <gtest/gtest.h>

#include "tests/worker/tools/vit_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/tools/memory_use.h"
#include "worker/tools/step_rig.h"

namespace cosub::tools {
namespace {

std::int64_t step_peak_bytes(double drop_rate) {
  collective::SingleCommunicator alone;
  StepRig rig(testing::vit_stage(drop_rate), /*accumulate=*/1, /*seed=*/1, /*weights=*/{}, alone, at::kCPU);
  rig.run();
  return peak_tensor_bytes(at::kCPU, [&] { rig.run(); });
}

TEST(StepMemory, DroppedRowsKeepNothingForTheBackwardPass) {
  const std::int64_t whole = step_peak_bytes(0.0), half = step_peak_bytes(0.5);
  EXPECT_GT(whole, 1 << 20) << "the observer saw nothing";
  EXPECT_LE(static_cast<double>(half), 0.6 * static_cast<double>(whole));
}

TEST(StepMemory, ACountedPeakIsTheSameEveryTime) {
  EXPECT_EQ(step_peak_bytes(0.25), step_peak_bytes(0.25));
}

#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory aside for a while
TEST(StepMemory, AThousandStepsTakeNoMoreThanTen) {
  collective::SingleCommunicator alone;
  config::StageConfig stage = testing::vit_stage(0.25);
  stage.model.arch["depth"] = std::int64_t{3};
  StepRig rig(stage, /*accumulate=*/1, /*seed=*/1, /*weights=*/{}, alone, at::kCPU);
  for (int step = 0; step < 10; ++step) rig.run();
  const auto after_ten = static_cast<double>(resident_bytes());
  for (int step = 10; step < 1000; ++step) rig.run();
  EXPECT_NEAR(static_cast<double>(resident_bytes()) / after_ten, 1.0, 0.01) << after_ten;
}
#endif

TEST(PeakTensorBytes, CountsWhatLivesAtTheSameTime) {
  const std::int64_t peak = peak_tensor_bytes(at::kCPU, [] {
    { const at::Tensor gone = at::empty({1000}, at::kFloat); }
    const at::Tensor one = at::empty({600}, at::kFloat), other = at::empty({700}, at::kFloat);
  });
  EXPECT_EQ(peak, 1300 * 4);
}

}  // namespace
}  // namespace cosub::tools
