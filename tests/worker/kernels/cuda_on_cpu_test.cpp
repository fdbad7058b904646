// The emulator itself: what it must notice.
#include "tests/support/cuda_on_cpu.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "tests/support/emulated_kernels.h"
#include "worker/kernels/numbers.cuh"

namespace cosub::kernels {
namespace {

__global__ void reverse(int* values) {
  __shared__ int shared[64];
  shared[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = shared[63 - threadIdx.x];
}

__global__ void reverse_without_barrier(int* values) {
  __shared__ int shared[64];
  shared[threadIdx.x] = values[threadIdx.x];
  values[threadIdx.x] = shared[63 - threadIdx.x];
}

__global__ void sum_of_warp(float* sums) {
  const float sum = warp_sum(static_cast<float>(threadIdx.x + 1));
  sums[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

__global__ void half_a_block_waits() {
  if (threadIdx.x < 32) __syncthreads();
}

std::vector<int> reversed(void (*kernel)(int*), bool backwards) {
  std::vector<int> values(64);
  for (int i = 0; i < 64; ++i) values[static_cast<std::size_t>(i)] = i;
  testing::set_backwards(backwards);
  launch("reverse", kernel, {}, {64, 1}, nullptr, values.data());
  testing::set_backwards(false);
  return values;
}

TEST(CudaOnCpu, ABarrierWaitsForTheWholeBlockWhateverTheOrder) {
  const std::vector<int> values = reversed(reverse, false);
  EXPECT_EQ(values.front(), 63);
  EXPECT_EQ(values.back(), 0);
  EXPECT_EQ(values, reversed(reverse, true));
}

TEST(CudaOnCpu, AMissingBarrierShowsInTheOrderOfThreads) {
  EXPECT_NE(reversed(reverse_without_barrier, false), reversed(reverse_without_barrier, true));
}

TEST(CudaOnCpu, ShufflesStayWithinTheirWarp) {
  std::vector<float> sums(3 * 96);
  launch("sum_of_warp", sum_of_warp, {3, 1}, {96, 1}, nullptr, sums.data());
  for (std::size_t i = 0; i < sums.size(); ++i)
    EXPECT_EQ(sums[i], static_cast<float>(528 + 1024 * (i % 96 / 32))) << i;
}

TEST(CudaOnCpu, ABarrierThatSomeThreadsNeverReachIsAnError) {
  EXPECT_THROW(launch("half", half_a_block_waits, {}, {64, 1}, nullptr), std::logic_error);
}

TEST(CudaOnCpu, Bfloat16IsRoundedToTheNearestEven) {
  const auto rounded = [](float x) { return as_float(from_float<Bf16>(x)); };
  EXPECT_EQ(rounded(1.0f), 1.0f);
  EXPECT_EQ(rounded(1.00390625f), 1.0f) << "a tie, down to even";
  EXPECT_EQ(rounded(1.01171875f), 1.015625f) << "a tie, up to even";
  EXPECT_EQ(rounded(-1.005f), -1.0078125f);
  EXPECT_EQ(rounded(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(rounded(NAN)));
}

}  // namespace
}  // namespace cosub::kernels
