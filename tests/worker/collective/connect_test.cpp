// Connecting without MPI and without a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "common/error.h"
#include "worker/collective/communicator.h"

namespace cosub::collective {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string loaded_libraries() {
  std::ifstream maps("/proc/self/maps");
  return {std::istreambuf_iterator<char>(maps), {}};
}

TEST(ConnectTest, without_a_launcher_there_is_one_rank) {
  const auto communicator = connect();
  EXPECT_EQ(communicator->name(), "single");
  EXPECT_EQ(communicator->world_size(), 1);
}

TEST(ConnectTest, srun_without_mpi_is_refused_with_the_remedy) {
  setenv("SLURM_STEP_NUM_TASKS", "4", 1);
  EXPECT_THAT(message_of([] { connect(); }), HasSubstr("srun --mpi=pmix"));
  setenv("SLURM_STEP_NUM_TASKS", "1", 1);
  EXPECT_EQ(connect()->name(), "single");
  unsetenv("SLURM_STEP_NUM_TASKS");
}

TEST(ConnectNcclTest, without_a_gpu_the_error_says_so_and_no_cuda_library_is_loaded) {
  if (gpu_present()) GTEST_SKIP() << "this host has a GPU";
  const auto communicator = connect();
  const auto message = message_of([&] { connect_nccl(*communicator); });
  EXPECT_THAT(message, HasSubstr("no GPU on the host of rank 0"));
  EXPECT_THAT(message, HasSubstr("device: cpu"));
  EXPECT_THAT(loaded_libraries(), Not(HasSubstr("libtorch_cuda")));
  EXPECT_THAT(loaded_libraries(), Not(HasSubstr("libnccl")));
}

}  // namespace
}  // namespace cosub::collective
