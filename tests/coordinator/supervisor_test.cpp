#include "coordinator/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "tests/coordinator/rig.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SupervisorTest : public ::testing::Test {
 protected:
  Rig rig;

  ~SupervisorTest() override { EXPECT_THAT(rig.cluster.breaches, IsEmpty()); }

  protocol::Report report(const FakeJob& job, std::int64_t checkpoint_step = -1) {
    protocol::Report message;
    message.uuid = job.spec.uuid;
    message.attempt = job.spec.attempt;
    message.progress.phase = "training";
    message.progress.step = 5;
    message.progress.checkpoint_step = checkpoint_step;
    message.metrics_addresses = {"127.0.0.1:9001", "127.0.0.1:9002"};
    return message;
  }
  std::string token_of(const FakeJob& job) {
    std::string token = read_file(job.spec.attempt_folder / "token");
    token.pop_back();
    return token;
  }
  void all_jobs(Fate fate) {
    rig.cluster.fate = [fate](const FakeJob&) { return fate; };
  }
  std::string yaml() { return pipeline_yaml(rig.folder / "runs"); }
  static std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  }
  static std::string with_submodel(const std::string& yaml) {
    return replaced(yaml, "init: {stage: finetune}",
                    "init: {stage: finetune}, submodels: [{name: even, keep: even}]");
  }
  /// Of a submission that contradicts what is there; "" where it does not.
  std::string refusal_of(const std::string& yaml) {
    try {
      rig.supervisor->submit(yaml);
      return "";
    } catch (const Refusal& refusal) {
      EXPECT_EQ(refusal.status(), 409);
      return refusal.what();
    }
  }
  static Fate exits(int code, const std::string& reason, bool outside = false) {
    return {Fate::kExits, {code, reason, 1, outside, 5, 1.5}};
  }
};

TEST_F(SupervisorTest, RunsThreeStagesOneAfterTheOther) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  std::vector<std::string> order;
  for (const FakeJob& job : rig.cluster.jobs) order.push_back(job.stage);
  EXPECT_THAT(order, ElementsAre("pretrain", "finetune", "evaluate"));
  EXPECT_EQ(rig.view().stages[0].results.at("top1"), 0.9);
  const auto results = nlohmann::json::parse(read_file(rig.folder / "runs" / "p" / "results.json"));
  EXPECT_EQ(results["state"], "succeeded");
  EXPECT_EQ(results["stages"]["evaluate"]["top1"], 0.9);
}

TEST_F(SupervisorTest, LaysOutWhatAnAttemptNeeds) {
  rig.submit("{ranks: 2, grace: 7s}");
  rig.supervisor->tick();
  const FakeJob& job = rig.cluster.jobs.at(0);
  EXPECT_THAT(job.spec.worker_argv,
              ElementsAre("/bin/cosub-worker", "run", rig.stage_folder("pretrain").stage_yaml().string(),
                          "--attempt-folder", rig.stage_folder("pretrain").attempt(1).string()));
  EXPECT_EQ(job.spec.ranks, 2);
  EXPECT_EQ(job.spec.grace, std::chrono::seconds(7));
  EXPECT_EQ(job.spec.environment.at("OMP_NUM_THREADS"), "1");
  EXPECT_EQ(read_fence(rig.stage_folder("pretrain")), 1);
  EXPECT_EQ(read_coordinator(rig.stage_folder("pretrain"))->address, "127.0.0.1:7070");
  EXPECT_EQ(token_of(job).size(), 64u);
  struct stat info {};
  ASSERT_EQ(stat((job.spec.attempt_folder / "token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto stage = config::load_stage_file(rig.stage_folder("pretrain").stage_yaml());
  EXPECT_EQ(stage.stage.name, "pretrain");
  EXPECT_EQ(stage.stage_folder, rig.stage_folder("pretrain").root);
}

TEST_F(SupervisorTest, TellsALaterStageWhereItsWeightsAre) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(config::load_stage_file(rig.stage_folder("finetune").stage_yaml()).init_folder,
            rig.stage_folder("pretrain").root);
}

TEST_F(SupervisorTest, RestartsAfterDeathsFromOutsideAndSaysSo) {
  rig.cluster.fate = [](const FakeJob& job) {
    if (job.stage == "pretrain" && job.spec.attempt <= 2)
      return job.spec.attempt == 1 ? exits(137, "rank 1 killed by signal 9", true) : Fate{Fate::kVanishes};
    return Fate{Fate::kCompletes};
  };
  rig.submit();
  rig.tick();
  rig.supervisor->tick();
  EXPECT_EQ(rig.view().stages[0].state, "backoff");
  EXPECT_THAT(rig.view().stages[0].reason,
              AllOf(HasSubstr("restarting in 1 s"),
                    HasSubstr("rank 1 killed by signal 9 (attempt 1 of stage pretrain)")));
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(rig.view().stages[0].attempts.size(), 3u);
}

TEST_F(SupervisorTest, FailsAStageThatCrashesThreeTimesAtTheSamePlace) {
  all_jobs(exits(1, "loss is not finite"));
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  EXPECT_EQ(rig.cluster.starts, 3);
  EXPECT_THAT(rig.view().reason, HasSubstr("loss is not finite"));
  EXPECT_EQ(rig.view().stages[1].state, "waiting");
  EXPECT_THAT(rig.view().stages[1].reason, HasSubstr("pretrain, which failed"));
}

TEST_F(SupervisorTest, NeverRetriesBadInput) {
  all_jobs(exits(78, "labels.gz is cut off"));
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  EXPECT_EQ(rig.cluster.starts, 1);
  EXPECT_EQ(rig.view().stages[0].attempts[0].exit_code, 78);
}

TEST_F(SupervisorTest, TriesAFailedStageAgainWithFreshCountersWhenItIsSubmittedAgain) {
  all_jobs(exits(1, "boom"));
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  EXPECT_EQ(rig.cluster.starts, 6);
  all_jobs({Fate::kCompletes});
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(rig.view().stages[0].attempts.back().number, 7);
}

TEST_F(SupervisorTest, StopsAndGoesOnWhereItWas) {
  rig.cluster.fate = [](const FakeJob& job) {
    return Fate{job.age >= 5 || job.stage == "pretrain" ? Fate::kCompletes : Fate::kGoesOn};
  };
  rig.submit();
  while (rig.cluster.running("finetune") == nullptr) rig.tick();
  EXPECT_EQ(rig.supervisor->stop("p", false, "Ctrl-C").state, "stopping");
  ASSERT_TRUE(rig.reaches("stopped"));
  EXPECT_EQ(rig.view().stages[0].state, "succeeded");
  EXPECT_EQ(rig.view().stages[1].state, "stopped");
  EXPECT_THAT(rig.view().stages[1].reason, HasSubstr("Ctrl-C"));
  EXPECT_TRUE(rig.supervisor->idle());
  rig.supervisor->resume("p");
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(rig.view().stages[0].attempts.size(), 1u);
  EXPECT_EQ(rig.view().stages[1].attempts.size(), 2u);
}

TEST_F(SupervisorTest, SubmittingTheSameAgainGoesOnToo) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  rig.supervisor->stop("p", false, "");
  ASSERT_TRUE(rig.reaches("stopped"));
  all_jobs({Fate::kCompletes});
  EXPECT_EQ(rig.submit().state, "running");
  EXPECT_TRUE(rig.reaches("succeeded"));
}

TEST_F(SupervisorTest, StopsAtOnceWithoutACheckpoint) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  rig.supervisor->stop("p", true, "twice Ctrl-C");
  rig.supervisor->tick();
  EXPECT_EQ(rig.view().state, "stopped");
  EXPECT_EQ(rig.cluster.running("pretrain"), nullptr);
}

TEST_F(SupervisorTest, LeavesASucceededPipelineAloneUnlessItsFilesAreGone) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  rig.submit();
  rig.tick();
  EXPECT_EQ(rig.cluster.starts, 3);
  std::filesystem::remove(rig.stage_folder("evaluate").result());
  EXPECT_EQ(rig.submit().state, "running");
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(rig.cluster.starts, 4);
}

TEST_F(SupervisorTest, RefusesAnotherPipelineUnderTheSameNameAndSaysWhatDiffers) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_THAT(refusal_of(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3)),
              AllOf(HasSubstr("\n  stages.pretrain.optimizer.lr: 0.001, now 0.005\n"),
                    HasSubstr("Stage pretrain has a result"), HasSubstr("--set name="),
                    HasSubstr("remove the folder"), Not(HasSubstr("weights"))));
  EXPECT_THAT(refusal_of(replaced(yaml(), "seed: 0", "seed: 1")), HasSubstr("seed: 0, now 1"));
}

TEST_F(SupervisorTest, NamesFiveDifferencesAndCountsTheOthers) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  const std::string message =
      refusal_of(replaced(yaml(), "optimizer: {lr: 0.001000}",
                          "optimizer: {lr: 1, weight_decay: 0, beta1: 0.1, beta2: 0.2, eps: 1, clip_norm: 1, "
                          "layer_decay: 0.5}"));
  EXPECT_THAT(message, AllOf(HasSubstr("optimizer.eps: 0, now 1"), HasSubstr("\n  and 2 more\n")));
  EXPECT_THAT(message, Not(HasSubstr("clip_norm")));
}

TEST_F(SupervisorTest, NamesTheWeightsThatAreThereToBeginWith) {
  rig.cluster.fate = [](const FakeJob& job) {
    return job.stage == "pretrain" ? Fate{Fate::kCompletes} : exits(78, "stem_widht");
  };
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  for (const char* step : {"step-000000100", "step-000000200"})
    std::filesystem::create_directories(rig.stage_folder("pretrain").checkpoints() / step);
  std::filesystem::create_directories(rig.stage_folder("finetune").checkpoints() /
                                      "step-000000001.damaged-1");
  const std::string changed = replaced(yaml(), "{stage: pretrain}", "{stage: pretrain, head: replace}");
  const std::filesystem::path newest = rig.stage_folder("pretrain").checkpoints() / "step-000000200";
  EXPECT_THAT(refusal_of(changed),
              AllOf(HasSubstr("Stage finetune has a checkpoint"),
                    HasSubstr("init: {weights: " + (newest / "model.safetensors").string() + "}")));
  std::ofstream(newest / "ema.safetensors").close();
  EXPECT_THAT(refusal_of(changed), HasSubstr((newest / "ema.safetensors").string()));
}

TEST_F(SupervisorTest, TakesOnAChangeOfAStageThatFailedAtItsStart) {
  rig.cluster.fate = [](const FakeJob& job) {
    return job.stage == "evaluate" ? exits(78, "no such blocks") : Fate{Fate::kCompletes};
  };
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  const std::string changed = with_submodel(yaml());
  const auto view = rig.supervisor->submit(changed);
  EXPECT_EQ(view.state, "running");
  EXPECT_EQ(view.stages[0].state, "succeeded");
  EXPECT_EQ(view.stages[1].state, "succeeded");
  EXPECT_EQ(view.stages[2].state, "waiting");
  EXPECT_EQ(view.stages[2].reason, "");
  rig.restart();
  all_jobs({Fate::kCompletes});
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(rig.cluster.starts, 4);
  ASSERT_EQ(rig.view().stages[2].attempts.size(), 2U);  // the one that failed is still told of
  EXPECT_EQ(rig.view().stages[2].attempts[1].number, 2);
  rig.restart();
  rig.supervisor->submit(changed);
  EXPECT_EQ(rig.view().state, "succeeded");
  EXPECT_THAT(refusal_of(yaml()), HasSubstr("Stage evaluate has a result"));
}

TEST_F(SupervisorTest, TakesOnAChangeOfALaterStageWhileAnEarlierOneRuns) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  rig.supervisor->submit(with_submodel(yaml()));
  EXPECT_EQ(rig.view().stages[0].state, "running");
  rig.restart();
  rig.tick();
  EXPECT_EQ(rig.view().stages[0].attempts.size(), 1u);
  EXPECT_EQ(rig.cluster.starts, 1);
  EXPECT_THAT(refusal_of(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3)),
              HasSubstr("Stage pretrain has a running attempt (1)"));
}

TEST_F(SupervisorTest, RefusesAChangeOfAStageWhoseHeirsHaveResults) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  std::filesystem::remove_all(rig.stage_folder("pretrain").root);
  EXPECT_THAT(refusal_of(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3)),
              HasSubstr("Stage finetune has a result"));
  std::filesystem::remove_all(rig.stage_folder("finetune").root);
  std::filesystem::remove_all(rig.stage_folder("evaluate").root);
  EXPECT_EQ(refusal_of(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3)), "");
}

TEST_F(SupervisorTest, RunsAStageThatWasAddedAndForgetsOneThatWasTakenOut) {
  rig.cluster.fate = [](const FakeJob& job) {
    return job.stage == "evaluate" ? exits(78, "no such blocks") : Fate{Fate::kCompletes};
  };
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  rig.supervisor->submit(replaced(yaml(), "{name: evaluate,", "{name: another,"));
  ASSERT_TRUE(rig.reaches("succeeded"));
  rig.restart();
  EXPECT_EQ(rig.view().stages.size(), 3u);
  EXPECT_EQ(rig.view().stages[2].name, "another");
  EXPECT_EQ(rig.cluster.starts, 4);
}

TEST_F(SupervisorTest, TakesOnTheSameChangesWhenOnlyTheFolderRemembers) {
  rig.cluster.fate = [](const FakeJob& job) {
    return job.stage == "evaluate" ? exits(78, "no such blocks") : Fate{Fate::kCompletes};
  };
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  rig.store->remove("p");
  rig.restart();
  EXPECT_THAT(refusal_of(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3)),
              HasSubstr("Stage pretrain has a result"));
  EXPECT_EQ(rig.supervisor->submit(with_submodel(yaml())).state, "running");
}

TEST_F(SupervisorTest, RefusesItAlsoWhenOnlyTheFolderRemembers) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  rig.store->remove("p");
  rig.restart();
  EXPECT_THROW(rig.supervisor->submit(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3)), Refusal);
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_EQ(rig.view().stages[0].attempts[0].number, 2);  // the destructor checks that no number came twice
}

/// What this one remembers is older than what lies there.
TEST_F(SupervisorTest, LooksAtAFolderThatAnotherCoordinatorHasGoneOnWith) {
  rig.cluster.fate = [](const FakeJob& job) {
    return job.stage == "evaluate" ? exits(78, "no such blocks") : Fate{Fate::kCompletes};
  };
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  const std::filesystem::path folder = rig.folder / "runs" / "p";
  write_file_atomically(folder / "pipeline.yaml", with_submodel(yaml()));
  write_file_atomically(folder / "evaluate" / "result.json", "{}");
  EXPECT_THAT(refusal_of(yaml()), HasSubstr("Stage evaluate has a result"));
}

TEST_F(SupervisorTest, StartsOverUnderTheSameNameWhenTheFolderWasRemoved) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  std::filesystem::remove_all(rig.folder / "runs" / "p");
  const auto view = rig.supervisor->submit(pipeline_yaml(rig.folder / "runs", "{ranks: 2}", 5e-3));
  EXPECT_EQ(view.state, "running");
  EXPECT_TRUE(view.stages[0].attempts.empty());
}

TEST_F(SupervisorTest, TakesOnAChangeOfTheClusterAlone) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  rig.submit("{ranks: 3}");
  all_jobs(exits(137, "killed", true));
  rig.tick();
  all_jobs({Fate::kGoesOn});
  for (int i = 0; i < 10; ++i) rig.tick();
  EXPECT_EQ(rig.cluster.jobs.back().spec.ranks, 3);
}

TEST_F(SupervisorTest, AdoptsARunningJobAfterARestart) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  rig.restart();
  rig.tick();
  EXPECT_EQ(rig.cluster.starts, 1);
  EXPECT_EQ(read_coordinator(rig.stage_folder("pretrain"))->generation, 2);
  const FakeJob& job = *rig.cluster.running("pretrain");
  EXPECT_EQ(rig.supervisor->report(job.spec.uuid, token_of(job), report(job)).generation, 2);
  EXPECT_EQ(rig.view().stages[0].attempts.at(0).state, "running");
}

TEST_F(SupervisorTest, FindsOutHowAJobEndedWhileNobodyWatched) {
  rig.submit();
  rig.supervisor->tick();
  rig.supervisor.reset();
  for (int i = 0; i < 5; ++i) rig.cluster.pass_time();
  rig.restart();
  rig.tick();
  EXPECT_EQ(rig.view().stages[0].state, "succeeded");
}

TEST_F(SupervisorTest, ShowsProgressAndAddressesOfWhatReports) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  const FakeJob& job = *rig.cluster.running("pretrain");
  EXPECT_EQ(rig.supervisor->report(job.spec.uuid, token_of(job), report(job)).action, "none");
  EXPECT_EQ(rig.view().stages[0].progress.step, 5);
  const auto groups = rig.supervisor->service_discovery();
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0]["targets"].size(), 2u);
  EXPECT_EQ(groups[0]["labels"],
            (nlohmann::json{{"pipeline", "p"}, {"stage", "pretrain"}, {"attempt", "1"}}));
}

TEST_F(SupervisorTest, TellsAReportingWorkerToStopAndAStaleOneThatItIsVoid) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  const FakeJob job = *rig.cluster.running("pretrain");
  rig.supervisor->stop("p", false, "");
  rig.supervisor->tick();
  EXPECT_EQ(rig.supervisor->report(job.spec.uuid, token_of(job), report(job)).action, "stop");
  ASSERT_TRUE(rig.reaches("stopped"));
  EXPECT_EQ(rig.supervisor->report(job.spec.uuid, token_of(job), report(job)).action, "void");
}

TEST_F(SupervisorTest, StopsAnAttemptThatFallsSilentAndStartsAnother) {
  all_jobs({Fate::kGoesOn});
  rig.submit("{ranks: 2, report_timeout: 5s}");
  rig.tick();
  const FakeJob& job = *rig.cluster.running("pretrain");
  rig.supervisor->report(job.spec.uuid, token_of(job), report(job));
  rig.now += std::chrono::seconds(5);
  rig.tick();
  rig.tick();
  EXPECT_THAT(rig.view().stages[0].attempts[0].reason, HasSubstr("rank 0 sent no report"));
  for (int i = 0; i < 5; ++i) rig.tick();
  EXPECT_EQ(rig.cluster.starts, 2);
}

TEST_F(SupervisorTest, ANewCheckpointForgivesEarlierRestarts) {
  all_jobs({Fate::kGoesOn});
  rig.submit("{ranks: 2, max_restarts: 1}");
  for (std::int64_t round = 1; round <= 4; ++round) {
    while (rig.cluster.running("pretrain") == nullptr) rig.tick();
    FakeJob& job = *rig.cluster.running("pretrain");
    rig.supervisor->report(job.spec.uuid, token_of(job), report(job, round * 100));
    job.state = FakeJob::kEnded;
    rig.tick();
    EXPECT_EQ(rig.view().stages[0].state, "backoff") << round;
  }
}

TEST_F(SupervisorTest, RefusesToSubmitWhereNothingCanBeStarted) {
  rig.cluster.not_available = "mpirun not found in PATH: install openmpi-bin";
  try {
    rig.submit();
    FAIL();
  } catch (const Refusal& refusal) {
    EXPECT_EQ(refusal.status(), 400);
    EXPECT_THAT(refusal.what(), HasSubstr("install openmpi-bin"));
  }
}

TEST_F(SupervisorTest, FailsAStageWhoseAttemptsCannotBeStarted) {
  rig.cluster.start_fails_with = "cosub-attempt: not found";
  rig.submit();
  ASSERT_TRUE(rig.reaches("failed"));
  EXPECT_EQ(rig.view().stages[0].attempts.size(), 3u);
  EXPECT_THAT(rig.view().reason, HasSubstr("cosub-attempt: not found"));
}

TEST_F(SupervisorTest, SaysWhatBlocksItAndGoesOnWhenThatIsMended) {
  rig.submit();
  rig.fault = [](const char*) { throw IoError("state.db: the disk is full"); };
  EXPECT_FALSE(rig.supervisor->blocked_with_nothing_running());
  rig.tick();
  EXPECT_EQ(rig.view().state, "blocked");
  EXPECT_THAT(rig.view().reason, HasSubstr("state.db: the disk is full"));
  EXPECT_EQ(rig.supervisor->list().at(0).state, "blocked");
  EXPECT_TRUE(rig.supervisor->blocked_with_nothing_running());
  rig.fault = nullptr;
  EXPECT_TRUE(rig.reaches("succeeded"));
}

TEST_F(SupervisorTest, DoesNotEndBesideARunningJobThoughItIsBlocked) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  rig.fault = [](const char*) { throw IoError("state.db: the disk is full"); };
  EXPECT_THROW(rig.supervisor->stop_all("`cosub run` has ended"), IoError);
  rig.now += std::chrono::hours(1);  // silent for too long: it wants to stop the job, which it cannot record
  rig.tick();
  EXPECT_EQ(rig.view().state, "blocked");
  EXPECT_FALSE(rig.supervisor->blocked_with_nothing_running());
}

TEST_F(SupervisorTest, StopsEverythingAndIsIdleThen) {
  all_jobs({Fate::kGoesOn});
  rig.submit();
  rig.tick();
  EXPECT_FALSE(rig.supervisor->idle());
  rig.supervisor->stop_all("`cosub run` has ended");
  ASSERT_TRUE(rig.reaches("stopped"));
  EXPECT_TRUE(rig.supervisor->idle());
}

TEST_F(SupervisorTest, CountsForPrometheus) {
  rig.submit();
  ASSERT_TRUE(rig.reaches("succeeded"));
  EXPECT_THAT(rig.supervisor->metrics_text(),
              AllOf(HasSubstr("cosub_coordinator_pipelines{state=\"succeeded\"} 1"),
                    HasSubstr("cosub_coordinator_attempts_started_total 3"),
                    HasSubstr("cosub_coordinator_attempts_ended_total{class=\"done\"} 3")));
}

}  // namespace
}  // namespace cosub::coordinator
