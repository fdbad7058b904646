#include "launcher/attempt/record.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <thread>

#include "common/atomic_file.h"
#include "tests/support/temporary_folder.h"

namespace cosub::launcher {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// A folder in exit.json's place: no file can be renamed onto it, for root neither.
void obstruct(const fs::path& folder) {
  fs::create_directories(folder / "exit.json" / "x");
}

ExitRecord ended_with_3() {
  ExitRecord record;
  record.exit_code = 3;
  return record;
}

TEST(Record, TriesAgainUntilTheFileSystemTakesIt) {
  testing::TemporaryFolder folder;
  obstruct(folder.path());
  ::testing::internal::CaptureStderr();
  bool recorded = false;
  std::thread writer([&] { recorded = record_exit(folder.path(), ended_with_3(), 20s); });
  fs::remove_all(folder / "exit.json");
  writer.join();
  ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(recorded);
  EXPECT_EQ(read_exit(folder.path()).value().exit_code, 3);
}

TEST(Record, GivesUpAtTheLimitAndSaysWhy) {
  testing::TemporaryFolder folder;
  obstruct(folder.path());
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(record_exit(folder.path(), ended_with_3(), 120ms));
  EXPECT_THAT(
      ::testing::internal::GetCapturedStderr(),
      ::testing::AllOf(::testing::HasSubstr("cannot be recorded"), ::testing::HasSubstr("exit.json")));
}

TEST(Record, ADamagedStatusLeavesTheStepUnknown) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "status.json", "{");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(conclude(folder.path(), JobEnd{}).step, -1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), ::testing::HasSubstr("status.json"));
}

}  // namespace
}  // namespace cosub::launcher
