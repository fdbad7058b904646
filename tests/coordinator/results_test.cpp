#include "coordinator/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/coordinator/situation.h"
#include "tests/support/temporary_folder.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using nlohmann::json;

TEST(Results, TurnsDotsIntoObjects) {
  EXPECT_EQ(nested({{"top1", 0.5}, {"submodels.even.top1", 0.25}, {"submodels.odd.top1", 0.125}}),
            json::parse(R"({"top1": 0.5, "submodels": {"even": {"top1": 0.25}, "odd": {"top1": 0.125}}})"));
}

TEST(Results, HoldWhatEachStageGave) {
  PipelineState pipeline = three_stages();
  pipeline.stages[0].status = StageStatus::kSucceeded;
  add_ended(pipeline.stages[1], EndClass::kOutside, "killed", 3);
  pipeline.stages[1].attempts.back().seconds = 2;
  add_ended(pipeline.stages[1], EndClass::kDone, "complete", 9);
  pipeline.stages[1].attempts.back().seconds = 3;
  pipeline.stages[1].status = StageStatus::kSucceeded;
  pipeline.stages[1].results = {{"top1", 0.9}};
  pipeline.stages[2].status = StageStatus::kSucceeded;
  pipeline.stages[2].export_path = "/runs/p/export/model";
  const json results = results_json(pipeline);
  EXPECT_EQ(results["name"], "p");
  EXPECT_EQ(results["state"], "succeeded");
  EXPECT_EQ(results["seconds"], 5);
  EXPECT_EQ(results["stages"]["finetune"]["top1"], 0.9);
  EXPECT_EQ(results["stages"]["finetune"]["attempts"], 2);
  EXPECT_EQ(results["stages"]["finetune"]["seconds"], 5);
  EXPECT_EQ(results["stages"]["evaluate"]["path"], "/runs/p/export/model");
}

TEST(Results, ReadWhatRankZeroWrote) {
  TemporaryFolder folder;
  EXPECT_FALSE(read_result(folder / "result.json"));
  std::ofstream(folder / "result.json")
      << R"({"step": 7, "metrics": {"top1": 0.9, "note": "x"}, "export_path": "/e", "param_hash": "ab"})";
  const auto result = read_result(folder / "result.json");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->step, 7);
  EXPECT_EQ(result->metrics, (std::map<std::string, double>{{"top1", 0.9}}));
  EXPECT_EQ(result->export_path, "/e");
}

TEST(Results, NameADamagedFile) {
  TemporaryFolder folder;
  for (const char* text : {"{", "[]", R"({"metrics": 3, "step": "x"})"}) {
    std::ofstream(folder / "result.json") << text;
    try {
      read_result(folder / "result.json");
      ADD_FAILURE() << "accepted " << text;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("result.json"));
    }
  }
}

TEST(RunFolder, KnowsDamagedCheckpointsForCheckpointsAndHalfOnesNot) {
  TemporaryFolder folder;
  const StageFolder stage{folder.path()};
  EXPECT_FALSE(has_checkpoints(stage));
  std::filesystem::create_directories(stage.checkpoints() / ".step-000000300.attempt-2");
  EXPECT_FALSE(has_checkpoints(stage));
  std::filesystem::create_directories(stage.checkpoints() / "step-000000400.damaged-1");
  EXPECT_TRUE(has_checkpoints(stage));
}

TEST(RunFolder, TellsTheNewestCheckpointAndTheHighestAttempt) {
  TemporaryFolder folder;
  const StageFolder stage{folder.path()};
  EXPECT_EQ(newest_checkpoint(stage), -1);
  EXPECT_EQ(highest_attempt(stage), 0);
  for (const char* name :
       {"step-000000100", "step-000000020", ".step-300.attempt-2", "step-000000400.damaged-1"})
    std::filesystem::create_directories(stage.checkpoints() / name);
  for (const char* name : {"2", "11", "notes"}) std::filesystem::create_directories(stage.attempts() / name);
  EXPECT_EQ(newest_checkpoint(stage), 100);
  EXPECT_EQ(highest_attempt(stage), 11);
  write_fence(stage, 12);
  EXPECT_EQ(highest_attempt(stage), 12);
}

}  // namespace
}  // namespace cosub::coordinator
