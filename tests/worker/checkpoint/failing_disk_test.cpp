// A disk that is full, or fails for a moment or for good, costs no checkpoint that was there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cerrno>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/checkpoint/file_faults.h"
#include "tests/worker/checkpoint/snapshots.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/retry.h"

namespace cosub::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FaultScope;
using ::testing::HasSubstr;

class FailingDisk : public ::testing::Test {
 protected:
  FailingDisk() {
    store_.commit(snapshot_of(1));
    store_.commit(snapshot_of(2));
  }

  void expect_untouched() {
    EXPECT_THAT(names_in(folder_), ElementsAre("step-000000001", "step-000000002"));
    expect_is_step(*Store(stage_.path(), 2, 2).load_newest(), 2);
  }

  testing::TemporaryFolder stage_;
  fs::path folder_ = stage_ / "checkpoints";
  Store store_{stage_.path(), 1, 2};
};

/// Files may not grow past `bytes` while this object lives; writing further gives EFBIG.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    if (::getrlimit(RLIMIT_FSIZE, &before_) != 0) throw std::runtime_error("getrlimit");
    const rlimit limit{bytes, before_.rlim_max};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("setrlimit");
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(FailingDisk, AFileThatCannotBeWrittenToItsEndLeavesNothingBehind) {
  {
    const FileSizeLimit limit(20'000);
    EXPECT_THROW(store_.commit(snapshot_of(3, 10'000)), IoError);
  }
  expect_untouched();
  store_.commit(snapshot_of(3, 10'000));
  expect_is_step(*store_.load_newest(), 3, 10'000);
}

TEST_F(FailingDisk, ADiskThatFillsUpInMidWriteIsNamed) {
  for (const char* file : {"ema.safetensors", "model.safetensors", "state.json", "MANIFEST.json"}) {
    const FaultScope full({.call = "write", .path_part = file, .error_number = ENOSPC, .times = 1000});
    try {
      store_.commit(snapshot_of(3));
      FAIL() << "committed";
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(file), HasSubstr("No space left on device")));
    }
  }
  expect_untouched();
}

TEST_F(FailingDisk, TooLittleSpaceIsSaidBeforeAnythingIsWritten) {
  Snapshot snapshot = snapshot_of(3);
  snapshot.files["model"]["huge"] =
      at::zeros({1}).expand({std::int64_t{1} << 50});  // 4 PiB that take no memory
  try {
    store_.commit(snapshot);
    FAIL() << "committed";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("no room for the checkpoint of step 3: it needs 4"),
                                    HasSubstr("are free in")));
  }
  expect_untouched();
}

TEST_F(FailingDisk, AMomentaryFailureIsTriedAgain) {
  std::int64_t step = 3;
  for (const int error : {EIO, ESTALE, ETIMEDOUT}) {
    const FaultScope fault({.call = "fsync", .path_part = "model.safetensors", .error_number = error});
    store_.commit(snapshot_of(step));
    EXPECT_EQ(fault.num_failed(), 1);
    expect_is_step(*store_.load_newest(), step++);
  }
}

TEST_F(FailingDisk, AnFsyncThatFailsAfterTheRenameIsTriedAgain) {
  // The folder is synced after the temporary is made (1) and after the rename (2).
  const FaultScope fault({.call = "fsync", .path_part = "checkpoints$", .error_number = EIO, .skip = 1});
  store_.commit(snapshot_of(3));
  EXPECT_EQ(fault.num_failed(), 1);
  expect_is_step(*Store(stage_.path(), 2, 2).load_newest(), 3);
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000002", "step-000000003"));
}

TEST_F(FailingDisk, AReadThatFailsForAMomentCondemnsNothing) {
  const FaultScope fault({.call = "read", .path_part = "step-000000002", .error_number = EIO, .times = 2});
  expect_is_step(*Store(stage_.path(), 2, 2).load_newest(), 2);
  EXPECT_EQ(fault.num_failed(), 2);
}

TEST_F(FailingDisk, AReadThatFailsForGoodEndsTheAttemptAndCondemnsNothing) {
  {
    const FaultScope fault(
        {.call = "read", .path_part = "model.safetensors", .error_number = EIO, .times = 1000});
    EXPECT_THROW(Store(stage_.path(), 2, 2).load_newest(), IoError);
    EXPECT_EQ(fault.num_failed(), 1 + static_cast<int>(kRetryWaits.size()));
  }
  expect_untouched();
}

TEST_F(FailingDisk, OldCheckpointsThatCannotBeRemovedDoNotFailTheCommit) {
  const FaultScope fault({.call = "unlinkat", .path_part = "", .error_number = EACCES, .times = 1000});
  store_.commit(snapshot_of(3));
  EXPECT_GT(fault.num_failed(), 0);
  expect_is_step(*Store(stage_.path(), 2, 2).load_newest(), 3);
}

}  // namespace
}  // namespace cosub::checkpoint
