// main of test binaries that run under mpirun. Every rank runs every test, and each rank's result counts:
// mpirun fails when one of them does. Rank 0 prints as usual, the others only what fails.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include "tests/worker/collective/mpi_world.h"

namespace cosub::testing {
namespace {

std::unique_ptr<collective::Communicator> connected;

class FailuresOnly : public ::testing::EmptyTestEventListener {
  // Remembered, because GoogleTest holds its lock while it reports a result: asking it then would never
  // return.
  void OnTestStart(const ::testing::TestInfo& test) override { test_ = test.name(); }
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const char* file = result.file_name() == nullptr ? "?" : result.file_name();
    std::fprintf(stderr, "rank %d: %s: %s:%d\n%s\n", static_cast<int>(world().rank()), test_.c_str(), file,
                 result.line_number(), result.message());
  }
  std::string test_ = "outside a test";
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
