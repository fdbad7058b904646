// Checkpoints that were damaged on disk: set aside and named, the one before is used, and a stage that has
// none left stops instead of starting from zero.
#include "common/atomic_file.h"
#include "tests/e2e/bad_input.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BadCheckpoint : public BadInput {
 protected:
  void SetUp() override { expect_success(run()); }

  fs::path stage() const { return run_folder() / "pretrain"; }
  fs::path checkpoint(const std::string& step) const {
    return stage() / "checkpoints" / ("step-00000000" + step);
  }
  std::string log(const std::string& attempt) const {
    return read_file(stage() / "attempts" / attempt / "rank-0.log");
  }
  /// As if the machine had gone down right after the last checkpoint.
  void forget_the_results() {
    fs::remove(stage() / "result.json");
    fs::remove_all(run_folder() / "export");
  }
};

TEST_F(BadCheckpoint, NewestIsSetAsideAndTheOneBeforeLeadsToTheSameBytes) {
  const std::string exported = exported_sha256(run_folder());
  ASSERT_FALSE(exported.empty());
  forget_the_results();
  flip_a_bit(checkpoint("6") / "model.safetensors");
  expect_success(run());
  EXPECT_THAT(log("2"), HasSubstr("step-000000006: model.safetensors: its content is not what was written"));
  EXPECT_THAT(log("2"), HasSubstr("Set aside as step-000000006.damaged-1"));
  EXPECT_TRUE(fs::exists(checkpoint("6.damaged-1") / "model.safetensors"));
  EXPECT_EQ(exported_sha256(run_folder()), exported);
}

TEST_F(BadCheckpoint, NoneWholeStopsTheStageUntilAWholeCopyIsBack) {
  const std::string exported = exported_sha256(run_folder());
  forget_the_results();
  fs::copy(checkpoint("4"), folder_ / "copy", fs::copy_options::recursive);
  flip_a_bit(checkpoint("6") / "ema.safetensors");
  fs::resize_file(checkpoint("4") / "MANIFEST.json", 20);
  for (int i = 0; i < 2; ++i) {  // the second time they have been set aside already: still no start from zero
    expect_refusal(run(), ExitCode::kBadInput,
                   {"there are checkpoints, but none is whole", "step-000000006", "ema.safetensors",
                    "step-000000004", "MANIFEST.json", "Put a whole copy back"});
  }
  EXPECT_TRUE(fs::exists(checkpoint("4.damaged-1")));
  EXPECT_TRUE(fs::exists(checkpoint("6.damaged-1")));
  fs::rename(folder_ / "copy", checkpoint("4"));
  expect_success(run());
  EXPECT_EQ(exported_sha256(run_folder()), exported);
}

TEST_F(BadCheckpoint, OfTheStageToStartFromIsNamedAndThatStageRunsAgainOnceRemoved) {
  const std::string exported = exported_sha256(run_folder());
  fs::remove_all(run_folder() / "export");
  flip_a_bit(checkpoint("6") / "ema.safetensors");
  fs::remove(checkpoint("4") / "state.json");
  expect_refusal(run(), ExitCode::kBadInput,
                 {"none of the checkpoints to start from is whole", "ema.safetensors", "state.json",
                  "remove " + stage().string()});
  EXPECT_TRUE(fs::exists(checkpoint("6") / "ema.safetensors"));  // not its own: named, not touched
  fs::remove_all(stage());
  expect_success(run());
  EXPECT_EQ(exported_sha256(run_folder()), exported);
}

}  // namespace
}  // namespace cosub::testing
