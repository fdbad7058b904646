#include "worker/tools/device_use.h"

#include <gtest/gtest.h>

namespace cosub::tools {
namespace {

TEST(DeviceUse, IsNothingWhereNothingRan) {
  EXPECT_EQ(device_use({}).span, 0);
  EXPECT_EQ(device_use_text({}, 3), "");
}

/// Milliseconds:  compute 0-4 and 6-9, beside it 2-3; NCCL 3-7 and 10-11.
TEST(DeviceUse, ExposedIsWhatNothingRunsBeside) {
  constexpr std::uint64_t kMs = 1'000'000;
  const DeviceUse use = device_use({{.begin_ns = 10 * kMs, .end_ns = 11 * kMs, .communicates = true},
                                    {.begin_ns = 0, .end_ns = 4 * kMs},
                                    {.begin_ns = 3 * kMs, .end_ns = 7 * kMs, .communicates = true},
                                    {.begin_ns = 2 * kMs, .end_ns = 3 * kMs},
                                    {.begin_ns = 6 * kMs, .end_ns = 9 * kMs}});
  EXPECT_NEAR(use.span, 0.011, 1e-12);
  EXPECT_NEAR(use.busy, 0.010, 1e-12);
  EXPECT_NEAR(use.communication, 0.005, 1e-12);
  EXPECT_NEAR(use.exposed, 0.003, 1e-12);
  EXPECT_EQ(
      device_use_text(use, 2),
      "GPU busy 5.0 of 5.5 ms a step (90.9 %); communication 2.5 ms, of which 1.5 ms exposed (27.3 % of "
      "the step)");
}

TEST(DeviceUse, OfOneRankSaysNothingOfCommunication) {
  EXPECT_EQ(device_use_text(device_use({{.begin_ns = 5, .end_ns = 1'000'005}}), 1),
            "GPU busy 1.0 of 1.0 ms a step (100.0 %)");
}

TEST(DeviceUse, KnowsNcclsKernels) {
  EXPECT_TRUE(is_communication("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"));
  EXPECT_FALSE(is_communication("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNN"));
}

}  // namespace
}  // namespace cosub::tools
