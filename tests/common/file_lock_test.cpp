#include "common/file_lock.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "common/process.h"
#include "tests/support/temporary_folder.h"

namespace cosub {
namespace {

using std::chrono::milliseconds;

class FileLocks : public ::testing::Test {
 protected:
  std::optional<FileLock> lock() { return FileLock::try_lock(file_, milliseconds(0)); }
  /// How many descriptors of this process the file has.
  std::int64_t num_opened() const {
    std::int64_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code ignored;  // the iterator's own is gone again
      count += std::filesystem::read_symlink(entry.path(), ignored) == file_ ? 1 : 0;
    }
    return count;
  }

  testing::TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "lock";
};

TEST_F(FileLocks, AreHeldOnceAndNameTheirHolder) {
  std::optional<FileLock> held = lock();
  ASSERT_TRUE(held);
  EXPECT_FALSE(lock());
  EXPECT_EQ(FileLock::holder_of(file_), fmt::format("process {} on {}", getpid(), host_name()));
  held.reset();
  EXPECT_TRUE(lock());
}

TEST_F(FileLocks, OfAFileThatItsHolderRemovesAreNotMistakenForTheNextOnes) {
  std::optional<FileLock> first = lock();
  auto waiting =
      std::async(std::launch::async, [&] { return FileLock::try_lock(file_, milliseconds(60'000)); });
  while (num_opened() < 2) std::this_thread::yield();  // it waits for the file that is about to go
  std::filesystem::remove(file_);
  first.reset();
  const std::optional<FileLock> second = waiting.get();
  EXPECT_TRUE(second);
  EXPECT_FALSE(lock());
}

}  // namespace
}  // namespace cosub
