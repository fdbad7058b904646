#include "common/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

namespace cosub {
namespace {

using ::testing::HasSubstr;

class Log : public ::testing::Test {
 protected:
  void TearDown() override { ::unsetenv("COSUB_LOG"); }

  static std::string lines_with(const char* level) {
    if (level != nullptr) ::setenv("COSUB_LOG", level, 1);
    ::testing::internal::CaptureStderr();
    init_logging("tester");
    spdlog::debug("a detail");
    spdlog::info("hello {}", 1);
    spdlog::error("it broke");
    return ::testing::internal::GetCapturedStderr();
  }
};

TEST_F(Log, LineHasTimeLevelAndProgram) {
  EXPECT_THAT(
      lines_with(nullptr),
      ::testing::ContainsRegex("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\\.[0-9]{3} I \\[tester\\] hello 1\n"));
}

TEST_F(Log, LevelComesFromTheEnvironment) {
  EXPECT_THAT(lines_with(nullptr), ::testing::Not(HasSubstr("a detail")));
  EXPECT_THAT(lines_with("debug"), HasSubstr("D [tester] a detail"));
  const std::string errors = lines_with("error");
  EXPECT_THAT(errors, HasSubstr("it broke"));
  EXPECT_THAT(errors, ::testing::Not(HasSubstr("hello")));
}

TEST_F(Log, UnknownLevelIsNamedAndChangesNothing) {
  const std::string lines = lines_with("loud");
  EXPECT_THAT(lines, HasSubstr("COSUB_LOG=loud is not a level"));
  EXPECT_THAT(lines, HasSubstr("hello"));
}

}  // namespace
}  // namespace cosub
