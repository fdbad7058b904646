// What the tests of the kernels share: each runs twice, by the emulator on the CPU and on a GPU where there
// is one (elsewhere it is skipped, saying so), with the same numbers and the same tolerances.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/distance.h"
#include "worker/kernels/kernels.h"

namespace cosub::testing {

enum class Where { kEmulated, kGpu };

class KernelTest : public ::testing::TestWithParam<Where> {
 protected:
  void SetUp() override;  // the kernels are loaded_kernels() while the test runs
  void TearDown() override;

  const kernels::Kernels& kernels() const { return *kernels_; }
  at::Device device() const { return device_; }
  at::TensorOptions floats() const { return at::dtype(at::kFloat).device(device_); }
  /// Reproducible numbers on the device; for `seed` other ones.
  at::Tensor numbers(at::IntArrayRef sizes, std::int64_t seed, at::ScalarType dtype = at::kFloat) const;
  at::Tensor rows(const std::vector<std::int64_t>& values) const;
  /// Of sums of `lines`; undefined numbers, as memory has them.
  at::Tensor scratch(std::int64_t lines, std::int64_t channels, std::int64_t sums) const;

  /// call() as often as the emulator has orders of threads (once on a GPU): all must give `result` the same
  /// bits.
  void in_any_order(const at::Tensor& result, const std::function<void()>& call) const;

 private:
  const kernels::Kernels* kernels_ = nullptr;
  at::Device device_ = at::kCPU;
};

/// Of a matrix whose lines are summed: few and many lines, channels that are and are not packed, none.
struct MatrixShape {
  std::int64_t lines, channels;
};
inline const std::vector<MatrixShape> kMatrixShapes = {{1, 192}, {3, 1000},   {130, 384}, {67, 30},
                                                       {0, 64},  {17'000, 2}, {17'000, 4}};

inline kernels::Dtype dtype_of(at::ScalarType type) {
  return type == at::kFloat ? kernels::Dtype::kFloat32 : kernels::Dtype::kBfloat16;
}

std::string name_of(const ::testing::TestParamInfo<Where>& info);

}  // namespace cosub::testing

#define COSUB_EMULATED_AND_ON_GPU(suite)                                                                    \
  INSTANTIATE_TEST_SUITE_P(                                                                                 \
      Kernels, suite, ::testing::Values(::cosub::testing::Where::kEmulated, ::cosub::testing::Where::kGpu), \
      ::cosub::testing::name_of)
