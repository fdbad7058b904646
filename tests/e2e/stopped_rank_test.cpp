// A rank that is stopped (SIGSTOP) while it trains: the others name it with step and bucket or phase within
// the limit, the job ends by itself and leaves nothing, and a supervised run goes on with the next attempt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <thread>

#include "common/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"

namespace cosub::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ContainsRegex;
namespace fs = std::filesystem;

constexpr std::chrono::seconds kCollectiveTimeout(4);
constexpr std::chrono::seconds kMargin(10);  // for MPI_Abort and a busy machine

bool wait_until(const std::function<bool()>& holds) {
  for (const auto end = std::chrono::steady_clock::now() + 120s; std::chrono::steady_clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

/// The toy pipeline with the limit above, on three ranks.
fs::path write_pipeline(const fs::path& folder, const std::string& reduction, double epochs) {
  ToyPipeline options;
  options.ranks = 3;
  options.reduction = reduction;
  options.pretrain_epochs = epochs;
  const fs::path file = write_toy_pipeline(folder, options);
  const std::string key = "  log_every_steps: 4\n";
  std::string text = read_file(file);
  text.insert(text.find(key), "  collective_timeout: " + std::to_string(kCollectiveTimeout.count()) + "s\n");
  std::ofstream(file) << text;
  return file;
}

std::vector<ProcessId> workers(const fs::path& folder) {
  return processes_named("cosub-worker", folder.string());
}

void stop_rank(const fs::path& folder, int rank) {
  const std::string wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0';
  for (const ProcessId& worker : workers(folder)) {
    if (read_file("/proc/" + std::to_string(worker.pid) + "/environ").find(wanted) == std::string::npos)
      continue;
    ASSERT_TRUE(send_signal(worker, SIGSTOP));
    return;
  }
  FAIL() << "rank " << rank << " is not there";
}

bool trains(const std::string& log) {
  return std::regex_search(log, std::regex("step [1-9][0-9][0-9]/"));
}

/// "rank 0 of 3 on host waited 4 s for rank 2 in OPERATION (step 41, bucket 1 of 3): rank 2 of 3 on host was
/// last heard 3.9 s ago, at step 41, backward, ...", or of rank 0 "in meet (the checkpoint of step 40)",
/// where it is known to be silent up to a few seconds later.
std::string naming(int stopped) {
  const std::string rank = std::to_string(stopped);
  return "rank [012] of 3 on [^ ]+ waited [4-9] s for rank " + rank +
         " in [a-z_]+ \\((step [0-9]+, bucket [0-9]+ of [0-9]+[^)]*|the checkpoint of step [0-9]+)\\): "
         "rank " +
         rank + " of 3 on [^ ]+ was last heard [0-9.]+ s ago, at step [0-9]+, [a-z]+";
}

class StoppedRank : public ::testing::TestWithParam<std::pair<std::string, int>> {
 protected:
  /// STAGE/stage.yaml as `cosub run` writes it.
  fs::path stage_file() {
    const fs::path pipeline = write_pipeline(folder_.path(), GetParam().first, 2000);
    const fs::path stage = folder_.path() / "runs/toy/pretrain/stage.yaml";
    Background run({program("cosub").string(), "run", pipeline.string()}, folder_ / "run-output");
    EXPECT_TRUE(wait_until([&] { return fs::exists(stage); })) << run.output();
    run.signal(SIGINT);
    run.signal(SIGINT);
    EXPECT_TRUE(run.wait(60s));
    return stage;
  }
  TemporaryFolder folder_;
};

TEST_P(StoppedRank, IsNamedByTheOthersAndTheJobEndsByItself) {
  const auto [reduction, stopped] = GetParam();
  const std::vector<std::string> command{"mpirun", "--oversubscribe",       "--bind-to", "none",      "-n",
                                         "3",      program("cosub-worker"), "run",       stage_file()};
  ProgramOptions options;
  options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                         {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                         {"OMP_WAIT_POLICY", "passive"}};
  Background job(command, folder_ / "output", options);
  ASSERT_TRUE(wait_until([&] { return trains(job.output()); })) << job.output();
  stop_rank(folder_.path(), stopped);
  const auto start = std::chrono::steady_clock::now();
  const auto code = job.wait(kCollectiveTimeout + kMargin);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(code) << "the job has not ended:\n" << job.output();
  EXPECT_EQ(*code, 1) << job.output();
  RecordProperty("seconds_until_the_end", std::to_string(took.count()));
  const std::string output = job.output();
  EXPECT_THAT(output, ContainsRegex(naming(stopped)));
  const std::string another = stopped == 2 ? "[01]" : stopped == 1 ? "[02]" : "[12]";
  EXPECT_FALSE(std::regex_search(
      output, std::regex("rank " + another + " of 3 on [^ ]+ waited [4-9] s for (the other|ranks|rank " +
                         another + ")")))
      << output;
  EXPECT_TRUE(workers(folder_.path()).empty());
  EXPECT_TRUE(processes_named("mpirun", folder_.path().string()).empty());
}
INSTANTIATE_TEST_SUITE_P(, StoppedRank,
                         ::testing::Values(std::pair("ordered", 2), std::pair("fast", 1),
                                           std::pair("ordered", 0), std::pair("fast", 0)),
                         [](const auto& one) {
                           return one.param.first + "_rank_" + std::to_string(one.param.second);
                         });

TEST(StoppedRankOfARun, IsTheReasonOfItsAttemptAndTheRunGoesOn) {
  const TemporaryFolder folder;
  Background run({program("cosub").string(), "run", write_pipeline(folder.path(), "ordered", 30).string()},
                 folder / "output");
  const fs::path attempts = folder.path() / "runs/toy/pretrain/attempts";
  ASSERT_TRUE(wait_until([&] { return trains(read_file_if_there(attempts / "1/rank-0.log").value_or("")); }))
      << run.output();
  stop_rank(folder.path(), 2);
  EXPECT_EQ(run.wait(240s), 0) << run.output();
  const auto record = nlohmann::json::parse(read_file(attempts / "1/exit.json"));
  EXPECT_THAT(record.at("reason").get<std::string>(), ContainsRegex(naming(2))) << record;
  EXPECT_THAT(run.output(), ContainsRegex(naming(2)));
  EXPECT_TRUE(workers(folder.path()).empty());
}

}  // namespace
}  // namespace cosub::testing
