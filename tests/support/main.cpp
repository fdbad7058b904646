// Every test binary's main: GoogleTest with quiet logging, and where source and build tree are, so that a
// test runs by hand as it does under ctest.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  constexpr int kKeepWhatIsSet = 0;
  setenv("COSUB_SOURCE_DIR", SOURCE_DIR, kKeepWhatIsSet);
  setenv("COSUB_BINARY_DIR", BINARY_DIR, kKeepWhatIsSet);
  testing::InitGoogleTest(&argc, argv);
  spdlog::set_level(spdlog::level::warn);
  return RUN_ALL_TESTS();
}
