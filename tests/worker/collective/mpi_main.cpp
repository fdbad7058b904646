// main of test binaries that run under mpirun. Every rank runs every test, and each rank's result counts:
// mpirun fails when one of them does. Rank 0 prints as usual, the others only what fails.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "tests/worker/collective/mpi_world.h"

namespace cosub::testing {
namespace {

std::unique_ptr<collective::Communicator> connected;

class FailuresOnly : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::fprintf(stderr, "rank %d: %s: %s:%d\n%s\n", static_cast<int>(world().rank()),
                 test == nullptr ? "outside a test" : test->name(),
                 result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                 result.message());
  }
};

}  // namespace

collective::Communicator& world() {
  return *connected;
}

int run(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  spdlog::set_level(spdlog::level::warn);
  connected = collective::connect();
  connected->set_limit(std::chrono::seconds(60));
  if (connected->rank() > 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly);
  }
  const int result = RUN_ALL_TESTS();
  connected.reset();
  return result;
}

}  // namespace cosub::testing

int main(int argc, char** argv) {
  try {
    return cosub::testing::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
