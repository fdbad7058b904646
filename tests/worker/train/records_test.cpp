// What training keeps beside tensors: metrics.csv, the progress in state.json, error records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "worker/train/error_record.h"
#include "worker/train/metrics_csv.h"
#include "worker/train/progress_state.h"

namespace cosub::train {
namespace {

using ::testing::HasSubstr;

MetricsRow row(std::int64_t step) {
  return {.step = step, .loss = 0.5, .val_top1 = step > 20 ? 0.25 : -1};
}

TEST(MetricsCsv, CutsRowsPastTheCheckpointAndGoesOn) {
  testing::TemporaryFolder folder;
  {
    MetricsCsv csv(folder / "metrics.csv", 0);
    for (std::int64_t step : {10, 20, 30}) csv.append(row(step));
  }
  MetricsCsv csv(folder / "metrics.csv", 20);
  csv.append(row(25));
  std::string text = read_file(folder / "metrics.csv");
  EXPECT_THAT(text, ::testing::StartsWith("step,epoch,loss"));
  EXPECT_THAT(text, HasSubstr("\n10,"));
  EXPECT_THAT(text, HasSubstr("\n20,"));
  EXPECT_THAT(text, HasSubstr("\n25,"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("\n30,")));
  EXPECT_THAT(text, ::testing::EndsWith(",0.250000,0\n"));
}

TEST(MetricsCsv, DropsARowThatAKillCutShort) {
  testing::TemporaryFolder folder;
  {
    MetricsCsv csv(folder / "metrics.csv", 0);
    csv.append(row(10));
  }
  std::ofstream(folder / "metrics.csv", std::ios::app) << "11,0.5";
  MetricsCsv csv(folder / "metrics.csv", 11);
  EXPECT_THAT(read_file(folder / "metrics.csv"), ::testing::Not(HasSubstr("\n11,")));
}

config::StageFile stage() {
  config::StageFile file;
  file.seed = 3;
  file.stage_folder = "/runs/toy/pretrain";
  file.stage.name = "pretrain";
  file.stage.model.name = "resnet18";
  file.stage.model.classes = 4;
  file.stage.batch = {.global = 64, .micro = 16};
  return file;
}

const TrainingSet kSet = {1000, "its names"};

TrainingProgress some_progress() {
  TrainingProgress progress;
  progress.step = 12;
  progress.interval = {.steps = 2, .loss = 1.0 / 3, .correct = 20.5, .images = 128};
  progress.val_top1 = 0.1 + 0.2;
  progress.seconds = 12.75;
  progress.skipped_steps = 5;
  progress.skipped_in_a_row = 3;
  return progress;
}

TEST(ProgressState, ComesBackBitForBit) {
  nlohmann::json state = nlohmann::json::parse(to_state(some_progress(), stage(), kSet, {}).dump());
  TrainingProgress back = from_state(state, stage(), kSet, "checkpoint");
  EXPECT_EQ(back.step, 12);
  EXPECT_EQ(back.interval.loss, 1.0 / 3);
  EXPECT_EQ(back.interval.correct, 20.5);
  EXPECT_EQ(back.val_top1, 0.1 + 0.2);
  EXPECT_EQ(back.seconds, 12.75);
  EXPECT_EQ(back.skipped_steps, 5);
  EXPECT_EQ(back.skipped_in_a_row, 3);
}

std::string refusal(const nlohmann::json& state, const config::StageFile& file,
                    const TrainingSet& set = kSet) {
  try {
    from_state(state, file, set, "step-12");
  } catch (const DataError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ProgressState, NamesWhatAnotherRunHasDifferently) {
  nlohmann::json state = to_state(some_progress(), stage(), kSet, {});
  config::StageFile other = stage();
  other.stage.threads = 2;
  EXPECT_THAT(refusal(state, other), HasSubstr("threads: 1, this run has 2"));
  other = stage();
  other.seed = 4;
  EXPECT_THAT(refusal(state, other), HasSubstr("seed: 3, this run has 4"));
  other = stage();
  other.stage.batch.micro = 32;
  EXPECT_THAT(refusal(state, other), HasSubstr("microbatches: 4, this run has 2"));
  other = stage();
  other.stage.reduction = config::Reduction::kFast;
  EXPECT_THAT(refusal(state, other), HasSubstr("reduction"));
  EXPECT_THAT(refusal(state, stage(), {999, kSet.identity}),
              HasSubstr("training samples: 1000, this run has 999"));
  EXPECT_THAT(refusal(state, stage(), {1000, "other labels"}),
              HasSubstr("training set: \"its names\", this run has \"other labels\""));
  other = stage();
  other.stage.optimizer.lr = 0.25;
  EXPECT_THAT(refusal(state, other), HasSubstr("lr: 0.25"));
}

TEST(ProgressState, DoesNotMindWhatChangesNoNumber) {
  nlohmann::json state = to_state(some_progress(), stage(), kSet, {});
  config::StageFile other = stage();
  other.stage.log_every_steps = 1;
  other.stage.checkpoint.keep = 9;
  other.stage.data.max_bad_share = 0.5;
  other.stage.non_finite = config::NonFinite::kSkip;
  EXPECT_EQ(refusal(state, other), "accepted");
}

/// Its hash is another one, its settings are not.
TEST(ProgressState, GoesOnFromACheckpointOfAVersionWithOtherKeys) {
  config::StageFile file = stage();
  file.pipeline = "toy";
  file.stage.data.train.folder = file.stage.data.val.folder = "/images";
  nlohmann::json state = to_state(some_progress(), file, kSet, {});
  state["identity"]["config"] = "0123456789abcdef";
  std::string text = state["stage"];
  const std::size_t line = text.find("head_scale:");
  text.erase(text.rfind('\n', line) + 1, text.find('\n', line) - text.rfind('\n', line));
  state["stage"] = text;
  EXPECT_EQ(refusal(state, file), "accepted");
  file.stage.optimizer.lr = 0.25;
  EXPECT_THAT(refusal(state, file), HasSubstr("lr: 0.25"));
}

TEST(ProgressState, SaysWhatIsMissing) {
  nlohmann::json state = to_state(some_progress(), stage(), kSet, {});
  state.erase("interval");
  EXPECT_THAT(refusal(state, stage()), HasSubstr("interval"));
}

TEST(ErrorRecord, SaysRankReasonStepAndCode) {
  testing::TemporaryFolder folder;
  set_current_step(41);
  write_error_record(folder.path(), {.rank = 3, .reason = "no space left", .exit_code = 1});
  nlohmann::json json = nlohmann::json::parse(read_file(folder / "error-rank-3.json"));
  EXPECT_EQ(json.at("rank"), 3);
  EXPECT_EQ(json.at("reason"), "no space left");
  EXPECT_EQ(json.at("step"), 41);
  EXPECT_EQ(json.at("exit_code"), 1);
  EXPECT_FALSE(json.at("host").get<std::string>().empty());
}

}  // namespace
}  // namespace cosub::train
