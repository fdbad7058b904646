// What a person does with `cosub run`: a whole pipeline, Ctrl-C and going on, and what is left when it is
// over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "common/atomic_file.h"
#include "common/error.h"
#include "launcher/commands/connection.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"

namespace cosub::testing {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::vector<std::string> run_command(const fs::path& pipeline) {
  return {program("cosub").string(), "run", pipeline.string()};
}

std::size_t processes_left(const fs::path& folder) {
  std::size_t left = 0;
  for (const char* name : {"cosub-worker", "mpirun", "cosub-attempt", "cosub-coordinator"}) {
    left += processes_named(name, folder.string()).size();
  }
  return left;
}

std::optional<protocol::PipelineView> view_of(const fs::path& run_folder) {
  try {
    commands::Connection connection(commands::private_state_folder(run_folder));
    return connection.try_pipeline(run_folder.filename().string());
  } catch (const Error&) {
    return std::nullopt;  // not up yet, or nothing submitted yet
  }
}

/// Waits until this stage of a running pipeline has come to this step; false when the pipeline ended first.
bool wait_for_step(const fs::path& run_folder, const std::string& stage, std::int64_t step) {
  const auto deadline = std::chrono::steady_clock::now() + 90s;
  while (std::chrono::steady_clock::now() < deadline) {
    const auto view = view_of(run_folder);
    if (view && view->state != "running") return false;
    for (const auto& one : view ? view->stages : std::vector<protocol::StageView>{}) {
      if (one.name == stage && one.progress.phase == "training" && one.progress.step >= step) return true;
    }
    std::this_thread::sleep_for(20ms);
  }
  return false;
}

class Run : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
};

TEST_F(Run, TrainsFineTunesEvaluatesAndExports) {
  ToyPipeline options;
  options.pretrain_epochs = 8;
  const ProgramResult result = run_program(run_command(write_toy_pipeline(folder_.path(), options)));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("submodel even"));
  EXPECT_THAT(result.output, HasSubstr("/metrics"));
  const auto results = nlohmann::json::parse(read_file(folder_ / "runs" / fs::path("toy/results.json")));
  const auto& stages = results.at("stages");
  EXPECT_GT(stages.at("pretrain").at("top1").get<double>(), 0.5);  // four classes: 0.25 by chance
  for (const char* submodel : {"even", "odd", "first_2"}) {
    EXPECT_TRUE(stages.at("evaluate").at("submodels").at(submodel).contains("top1")) << submodel;
  }
  EXPECT_TRUE(fs::exists(stages.at("export").at("path").get<std::string>() + "/config.json"));
  EXPECT_EQ(processes_left(folder_.path()), 0U);
}

TEST_F(Run, AgainSkipsWhatIsDone) {
  const fs::path pipeline = write_toy_pipeline(folder_.path(), {});
  ASSERT_EQ(run_program(run_command(pipeline)).exit_code, 0);
  const std::string before = exported_sha256(folder_.path() / "runs" / "toy");
  const ProgramResult again = run_program(run_command(pipeline));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("submodel even"));
  EXPECT_FALSE(fs::exists(folder_.path() / "runs" / "toy" / "pretrain" / "attempts" / "2"));
  EXPECT_EQ(exported_sha256(folder_.path() / "runs" / "toy"), before);
}

TEST_F(Run, InterruptedGoesOnWhereItStoppedWithTheSameResult) {
  ToyPipeline options;
  options.pretrain_epochs = 20;
  const fs::path pipeline = write_toy_pipeline(folder_.path(), options);
  options.name = "calm";
  ASSERT_EQ(run_program(run_command(write_toy_pipeline(folder_.path(), options))).exit_code, 0);

  Background run(run_command(pipeline), folder_ / "output");
  ASSERT_TRUE(wait_for_step(folder_.path() / "runs" / "toy", "pretrain", 20)) << run.output();
  run.signal(SIGINT);
  ASSERT_EQ(run.wait(60s), 75) << run.output();
  EXPECT_THAT(run.output(), HasSubstr("the same command goes on"));
  EXPECT_EQ(processes_left(folder_.path()), 0U);
  EXPECT_EQ(exported_sha256(folder_.path() / "runs" / "toy"), "");

  const ProgramResult again = run_program(run_command(pipeline));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(exported_sha256(folder_.path() / "runs" / "toy"),
            exported_sha256(folder_.path() / "runs" / "calm"));
}

TEST_F(Run, InterruptedTwiceEndsAtOnce) {
  ToyPipeline options;
  options.pretrain_epochs = 200;
  Background run(run_command(write_toy_pipeline(folder_.path(), options)), folder_ / "output");
  ASSERT_TRUE(wait_for_step(folder_.path() / "runs" / "toy", "pretrain", 5)) << run.output();
  run.signal(SIGINT);
  run.signal(SIGINT);
  EXPECT_EQ(run.wait(30s), 75) << run.output();
  EXPECT_EQ(processes_left(folder_.path()), 0U);
}

TEST_F(Run, KilledLeavesNothingRunningAndGoesOn) {
  ToyPipeline options;
  options.pretrain_epochs = 20;
  const fs::path pipeline = write_toy_pipeline(folder_.path(), options);
  {
    Background run(run_command(pipeline), folder_ / "output");
    ASSERT_TRUE(wait_for_step(folder_.path() / "runs" / "toy", "pretrain", 20)) << run.output();
    run.signal(SIGKILL);
    ASSERT_TRUE(run.wait(10s).has_value());
  }
  // Its coordinator sees the pipe close, lets the job write a checkpoint, and ends.
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (processes_left(folder_.path()) > 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(50ms);
  EXPECT_EQ(processes_left(folder_.path()), 0U);
  const ProgramResult again = run_program(run_command(pipeline));
  EXPECT_EQ(again.exit_code, 0) << again.output;
}

TEST_F(Run, ServesMetricsThatPrometheusTakes) {
  ToyPipeline options;
  options.pretrain_epochs = 200;
  Background run(run_command(write_toy_pipeline(folder_.path(), options)), folder_ / "output");
  ASSERT_TRUE(wait_for_step(folder_.path() / "runs" / "toy", "pretrain", 10)) << run.output();
  const std::regex address("http://[0-9.]+:[0-9]+/metrics");
  std::smatch match;
  std::string output = run.output();
  for (int tries = 0; tries < 200 && !std::regex_search(output, match, address); ++tries) {
    std::this_thread::sleep_for(50ms);
    output = run.output();
  }
  ASSERT_FALSE(match.empty()) << output;
  const ProgramResult page = run_program({"curl", "--silent", "--show-error", "--fail", match.str()});
  ASSERT_EQ(page.exit_code, 0) << page.output;
  EXPECT_THAT(page.output, HasSubstr("cosub_steps_total"));
  std::ofstream(folder_ / "page") << page.output;
  const ProgramResult check =
      run_program({"sh", "-c", "promtool check metrics < " + (folder_ / "page").string()});
  EXPECT_EQ(check.exit_code, 0) << check.output;
  run.signal(SIGINT);
  run.signal(SIGINT);
  run.wait(30s);
}

TEST_F(Run, DryRunPrintsTheResolvedPipelineAndCommandsAndTouchesNothing) {
  const fs::path pipeline = write_toy_pipeline(folder_.path(), {});
  auto command = run_command(pipeline);
  command.push_back("--dry-run");
  const ProgramResult result = run_program(command);
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("weight_decay: 0.05"));
  EXPECT_THAT(result.output, HasSubstr("mpirun"));
  EXPECT_THAT(result.output, HasSubstr("cosub-worker run"));
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(Run, WhatADryRunPrintsIsAPipelineAgain) {
  auto command = run_command(write_toy_pipeline(folder_.path(), {}));
  command.push_back("--dry-run");
  const ProgramResult first = run_program(command);
  ASSERT_EQ(first.exit_code, 0) << first.output;
  const fs::path printed = folder_ / "printed.yaml";
  std::ofstream(printed) << first.output;
  const ProgramResult second = run_program({program("cosub"), "run", printed, "--dry-run"});
  EXPECT_EQ(second.exit_code, 0) << second.output;
  EXPECT_EQ(second.output, first.output);
}

}  // namespace
}  // namespace cosub::testing
