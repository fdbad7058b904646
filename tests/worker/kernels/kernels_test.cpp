// The module with the real kernels, as far as a host without a GPU can go.
#include "worker/kernels/kernels.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/process.h"
#include "worker/collective/communicator.h"

namespace cosub::kernels {
namespace {

class KernelsModule : public ::testing::Test {
 protected:
  void TearDown() override { set_kernels(nullptr); }

  const bool built_ = std::filesystem::exists(executable_folder() / ".." / "lib" / "libcosub_kernels.so");
};

TEST_F(KernelsModule, LoadsWhereItWasBuiltAndGivesAllOfTheTable) {
  EXPECT_EQ(loaded_kernels(), nullptr);
  ASSERT_EQ(load_kernels(), built_);
  if (!built_) GTEST_SKIP() << "the kernels were not built: there is no nvcc, or COSUB_WITH_KERNELS is off";
  const Kernels* table = loaded_kernels();
  ASSERT_NE(table, nullptr);
  EXPECT_FALSE(table->on_cpu);
  EXPECT_TRUE(table->layer_norm && table->layer_norm_backward && table->add_rows && table->add_rows_backward);
  EXPECT_TRUE(table->bias_gelu && table->bias_gelu_backward);
  EXPECT_TRUE(table->adamw && table->sgd && table->lamb && table->ema);
}

TEST_F(KernelsModule, ALaunchThatCudaRefusesIsAnErrorThatNamesTheKernel) {
  if (collective::gpu_present() || !load_kernels()) GTEST_SKIP() << "this host has a GPU, or no kernels";
  EmaUpdate a;
  a.end = 1;
  try {
    loaded_kernels()->ema(a, nullptr);
    FAIL() << "launched without a GPU";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("CUDA kernel ema: "), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace cosub::kernels
