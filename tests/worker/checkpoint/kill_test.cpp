// A process that is killed while it commits, before any single file operation, leaves a stage that loads a
// whole checkpoint and goes on as if nothing had been.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/temporary_folder.h"
#include "tests/worker/checkpoint/file_faults.h"
#include "tests/worker/checkpoint/snapshots.h"
#include "worker/checkpoint/checkpoint.h"

namespace cosub::checkpoint {
namespace {

using ::testing::ElementsAre;

enum class End { kKilled, kCommitted, kFailed };

/// Commits step 3 in a child that dies before its n-th file operation.
End commit_in_child(const std::filesystem::path& stage, std::int64_t n) {
  const pid_t child = ::fork();
  if (child == 0) {
    testing::kill_before_file_call(n);
    try {
      Store(stage, 1, 2).commit(snapshot_of(3));
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return End::kFailed;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return End::kKilled;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? End::kCommitted : End::kFailed;
}

TEST(KilledCommit, LeavesAWholeCheckpointWhereverItStops) {
  const testing::TemporaryFolder two_committed;
  {
    Store store(two_committed.path(), 1, 2);
    store.commit(snapshot_of(1));
    store.commit(snapshot_of(2));
  }
  int kept_the_old = 0, has_the_new = 0;
  std::int64_t n = 1;
  for (;; ++n) {
    ASSERT_LT(n, 1000);
    const testing::TemporaryFolder stage;
    std::filesystem::copy(two_committed.path(), stage.path(), std::filesystem::copy_options::recursive);
    const End end = commit_in_child(stage.path(), n);
    ASSERT_NE(end, End::kFailed) << "operation " << n;

    Store next(stage.path(), 2, 2);
    const auto loaded = next.load_newest();
    ASSERT_TRUE(loaded) << "operation " << n;
    (loaded->step == 3 ? has_the_new : kept_the_old) += 1;
    ASSERT_NO_FATAL_FAILURE(expect_is_step(*loaded, loaded->step == 3 ? 3 : 2)) << "operation " << n;
    for (const std::string& name : names_in(stage / "checkpoints")) {
      ASSERT_EQ(name.find("damaged"), std::string::npos) << "operation " << n << " left a half one: " << name;
    }
    next.commit(snapshot_of(3));
    next.commit(snapshot_of(4));
    ASSERT_THAT(names_in(stage / "checkpoints"), ElementsAre("step-000000003", "step-000000004"))
        << "operation " << n;
    ASSERT_NO_FATAL_FAILURE(expect_is_step(*next.load_newest(), 4));
    if (end == End::kCommitted) break;
  }
  RecordProperty("kills", static_cast<int>(n - 1));
  EXPECT_GT(n, 30) << "file operations of a commit; does the counting see them?";
  EXPECT_GT(kept_the_old, 20);
  EXPECT_GT(has_the_new, 5);  // killed while it synced the folder or pruned
}

}  // namespace
}  // namespace cosub::checkpoint
