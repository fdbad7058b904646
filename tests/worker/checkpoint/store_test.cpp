// Committing, pruning and the fence, on a healthy disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "common/run_folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/checkpoint/file_faults.h"
#include "tests/worker/checkpoint/snapshots.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/manifest.h"

namespace cosub::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Checkpoints : public ::testing::Test {
 protected:
  testing::TemporaryFolder stage_;
  fs::path folder_ = stage_ / "checkpoints";
};

TEST_F(Checkpoints, NoneAtAllIsNotAnError) {
  EXPECT_EQ(Store(stage_.path(), 1, 3).load_newest(), std::nullopt);
  EXPECT_TRUE(Store(stage_.path(), 1, 3).steps().empty());
}

TEST_F(Checkpoints, TheNewestComesBackAsItWasCommitted) {
  Store store(stage_.path(), 1, 3);
  store.commit(snapshot_of(7));
  store.commit(snapshot_of(1'000'000'000));  // more digits than the name is padded to
  store.commit(snapshot_of(1'000'000'001));
  EXPECT_THAT(store.steps(), ElementsAre(7, 1'000'000'000, 1'000'000'001));
  const auto newest = Store(stage_.path(), 2, 3).load_newest();
  ASSERT_TRUE(newest);
  expect_is_step(*newest, 1'000'000'001);
  expect_is_step(read(folder_ / "step-000000007"), 7);
  EXPECT_EQ(verify(folder_ / "step-000000007"), "");
}

TEST_F(Checkpoints, NothingUnfinishedRemains) {
  Store(stage_.path(), 1, 3).commit(snapshot_of(7));
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000007"));
  EXPECT_THAT(names_in(folder_ / "step-000000007"),
              ElementsAre("MANIFEST.json", "ema.safetensors", "model.safetensors", "optimizer-0.safetensors",
                          "state.json"));
}

TEST_F(Checkpoints, OneThatIsThereAndWholeIsLeftAsItIs) {
  Store(stage_.path(), 1, 3).commit(snapshot_of(7));
  const auto before = fs::last_write_time(folder_ / "step-000000007" / "MANIFEST.json");
  Store(stage_.path(), 2, 3).commit(snapshot_of(7));
  EXPECT_EQ(fs::last_write_time(folder_ / "step-000000007" / "MANIFEST.json"), before);
  EXPECT_EQ(names_in(folder_).size(), 1u);
}

TEST_F(Checkpoints, OneThatIsThereAndDamagedIsSetAsideAndReplaced) {
  Store(stage_.path(), 1, 3).commit(snapshot_of(7));
  fs::remove(folder_ / "step-000000007" / "ema.safetensors");
  Store(stage_.path(), 2, 3).commit(snapshot_of(7));
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000007", "step-000000007.damaged-1"));
  expect_is_step(*Store(stage_.path(), 2, 3).load_newest(), 7);
}

TEST_F(Checkpoints, OnlyTheNewestAreKept) {
  Store store(stage_.path(), 1, 2);
  for (std::int64_t step = 1; step <= 5; ++step) store.commit(snapshot_of(step));
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000004", "step-000000005"));
}

TEST_F(Checkpoints, DamagedOnesDoNotCountAsKept) {
  {
    Store store(stage_.path(), 1, 5);
    for (std::int64_t step = 1; step <= 4; ++step) store.commit(snapshot_of(step));
  }
  fs::resize_file(folder_ / "step-000000003" / "model.safetensors", 10);
  Store(stage_.path(), 2, 2).commit(snapshot_of(5));
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000003.damaged-1", "step-000000004", "step-000000005"));
}

TEST_F(Checkpoints, YoungerOnesAreNeverPruned) {
  Store(stage_.path(), 1, 5).commit(snapshot_of(9));
  Store store(stage_.path(), 2, 1);
  store.commit(snapshot_of(3));
  store.commit(snapshot_of(4));
  EXPECT_THAT(store.steps(), ElementsAre(4, 9));
}

TEST_F(Checkpoints, AStaleAttemptNeitherWritesNorPrunesNorSetsAside) {
  Store store(stage_.path(), 3, 1);
  store.commit(snapshot_of(1));
  write_fence({stage_.path()}, 4);
  try {
    store.commit(snapshot_of(2));
    FAIL() << "committed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("attempt 3 may no longer write: attempt 4 holds the stage"));
    EXPECT_EQ(error.exit_code(), ExitCode::kFailure);
  }
  Store(stage_.path(), 4, 5).commit(snapshot_of(2));
  fs::remove(folder_ / "step-000000002" / "state.json");
  expect_is_step(*store.load_newest(), 1);
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000001", "step-000000002"));
}

TEST_F(Checkpoints, AnAttemptThatLosesTheFenceWhileItWritesDoesNotCommit) {
  Store store(stage_.path(), 3, 1);
  store.commit(snapshot_of(1));
  const testing::FaultScope meanwhile(
      {.call = "write", .path_part = "MANIFEST.json", .action = [&] { write_fence({stage_.path()}, 4); }});
  EXPECT_THROW(store.commit(snapshot_of(2)), Error);
  EXPECT_EQ(meanwhile.num_failed(), 1);
  EXPECT_THAT(names_in(folder_), ElementsAre("step-000000001"));
}

TEST_F(Checkpoints, UnfinishedWorkOfDeadAttemptsIsRemovedThatOfLaterOnesIsNot) {
  for (const char* name : {".step-000000005.attempt-1", ".step-000000006.attempt-2",
                           ".step-000000007.attempt-3", ".step-000000001.pruned", ".something-else"}) {
    fs::create_directories(folder_ / name);
  }
  Store(stage_.path(), 2, 3).commit(snapshot_of(8));
  EXPECT_THAT(names_in(folder_),
              ElementsAre(".something-else", ".step-000000007.attempt-3", "step-000000008"));
}

TEST_F(Checkpoints, ARenamedFolderIsNoticed) {
  Store(stage_.path(), 1, 3).commit(snapshot_of(7));
  fs::rename(folder_ / "step-000000007", folder_ / "step-000000008");
  EXPECT_THAT(verify(folder_ / "step-000000008"), HasSubstr("is of step 7; the folder was renamed"));
  fs::rename(folder_ / "step-000000008", folder_ / "best");  // a copy under a name of one's own is fine
  EXPECT_EQ(verify(folder_ / "best"), "");
}

}  // namespace
}  // namespace cosub::checkpoint
