#include "tests/worker/kernels/kernel_rig.h"

#include <ATen/Context.h>

#include "tests/support/cuda_half.h"
#include "tests/support/emulated_kernels.h"

namespace cosub::testing {

void KernelTest::SetUp() {
  const bool on_gpu_host = load_cuda_half();
  if (GetParam() == Where::kEmulated) {
    kernels_ = emulated_kernels();
    return kernels::set_kernels(kernels_);
  }
  if (!on_gpu_host) GTEST_SKIP() << "the kernels were not run on a GPU: this host has none";
  ASSERT_TRUE(kernels::load_kernels()) << "lib/libcosub_kernels.so was not built (COSUB_WITH_KERNELS)";
  kernels_ = kernels::loaded_kernels();
  device_ = at::Device(at::kCUDA, 0);
  at::globalContext().setAllowTF32CuDNN(false);  // as float32 is in a stage (worker/train/precision.h)
}

void KernelTest::TearDown() {
  kernels::set_kernels(nullptr);
  set_backwards(false);
}

at::Tensor KernelTest::numbers(at::IntArrayRef sizes, std::int64_t seed, at::ScalarType dtype) const {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  const at::Tensor ramp = at::arange(count, at::kDouble).mul(1.61803398875 + static_cast<double>(seed));
  return ramp.sin().add(ramp.mul(0.37).cos()).reshape(sizes).to(dtype).to(device_);
}

at::Tensor KernelTest::rows(const std::vector<std::int64_t>& values) const {
  return at::tensor(values, at::kLong).to(device_);
}

at::Tensor KernelTest::scratch(std::int64_t lines, std::int64_t channels, std::int64_t sums) const {
  return at::full({kernels::column_scratch(lines, channels, sums)}, NAN, floats());
}

void KernelTest::in_any_order(const at::Tensor& result, const std::function<void()>& call) const {
  call();
  const at::Tensor first = result.clone();
  set_backwards(true);
  call();
  set_backwards(false);
  EXPECT_TRUE(at::equal(result.view(at::kByte), first.view(at::kByte)))
      << "other numbers when it runs again, or in another order of threads";
}

std::string name_of(const ::testing::TestParamInfo<Where>& info) {
  return info.param == Where::kEmulated ? "Emulated" : "OnGpu";
}

}  // namespace cosub::testing
