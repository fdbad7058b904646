#include "coordinator/classify_exit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/situation.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using ::testing::HasSubstr;

class ClassifyExit : public ::testing::Test {
 protected:
  PipelineState pipeline = three_stages();
  StageState& stage = pipeline.stages[0];
  config::ClusterConfig cluster;

  Verdict end(const AttemptObservation& seen) {
    if (stage.attempts.empty() || !stage.attempts.back().live()) add_attempt(stage, AttemptStatus::kRunning);
    return classify_exit(stage, stage.attempts.back(), seen, cluster);
  }
  void stopped_by(StopCause cause, const std::string& reason) {
    AttemptState& attempt = add_attempt(stage, AttemptStatus::kRunning);
    attempt.stop = StopRequest::kCheckpoint;
    attempt.stop_cause = cause;
    attempt.stop_reason = reason;
  }
};

TEST_F(ClassifyExit, ZeroWithAResultIsSuccess) {
  AttemptObservation seen = exited(0, "complete");
  seen.result = StageResult{};
  EXPECT_EQ(end(seen).status, StageStatus::kSucceeded);
}

TEST_F(ClassifyExit, ZeroWithoutAResultIsAnErrorToRetry) {
  const Verdict verdict = end(exited(0, "complete"));
  EXPECT_EQ(verdict.end, EndClass::kOwnError);
  EXPECT_EQ(verdict.status, StageStatus::kBackoff);
  EXPECT_THAT(verdict.reason, HasSubstr("no result.json"));
}

TEST_F(ClassifyExit, ZeroWithADamagedResultIsAnErrorToRetry) {
  AttemptObservation seen = exited(0, "complete");
  seen.result_problem = "result.json: not a result";
  EXPECT_EQ(end(seen).end, EndClass::kOwnError);
}

TEST_F(ClassifyExit, BadInputIsNeverRetried) {
  const Verdict verdict = end(exited(78, "labels.gz: cut off"));
  EXPECT_EQ(verdict.status, StageStatus::kFailed);
  EXPECT_EQ(verdict.reason, "labels.gz: cut off (attempt 1 of stage pretrain)");
}

TEST_F(ClassifyExit, AnInterruptionOnRequestStops) {
  stopped_by(StopCause::kPerson, "Ctrl-C");
  const Verdict verdict = end(exited(75, "interrupted"));
  EXPECT_EQ(verdict.status, StageStatus::kStopped);
  EXPECT_THAT(verdict.reason, HasSubstr("Ctrl-C"));
}

TEST_F(ClassifyExit, AnInterruptionByOthersRestartsAtOnce) {
  const Verdict verdict = end(exited(75, "preempted"));
  EXPECT_EQ(verdict.status, StageStatus::kReady);
  EXPECT_EQ(verdict.restarts, 1);
}

TEST_F(ClassifyExit, OwnErrorsBackOffDoublingUpToTheLimit) {
  cluster.backoff = 2s;
  cluster.backoff_max = 10s;
  for (const auto& [restarts, pause] : {std::pair{0, 2s}, {1, 4s}, {2, 8s}, {3, 10s}, {15, 10s}}) {
    stage.restarts = restarts;
    EXPECT_EQ(end(exited(1, "boom")).backoff, pause) << restarts;
  }
}

TEST_F(ClassifyExit, DeathsFromOutsideBeginWithAShortBackoff) {
  cluster.backoff = 2s;
  for (const auto& [restarts, pause] :
       {std::pair<int, Instant>{0, 200ms}, std::pair<int, Instant>{1, 2s}, std::pair<int, Instant>{2, 4s}}) {
    stage.restarts = restarts;
    EXPECT_EQ(end(exited(137, "rank 1 killed by signal 9", true)).backoff, pause) << restarts;
  }
}

TEST_F(ClassifyExit, ThreeEqualErrorsAtOneStepAreACrashLoop) {
  add_ended(stage, EndClass::kOwnError, "boom", 12);
  EXPECT_EQ(end(exited(1, "boom", false, 12)).status, StageStatus::kBackoff);
  stage.attempts.pop_back();
  add_ended(stage, EndClass::kOutside, "killed", 12);
  add_ended(stage, EndClass::kOwnError, "boom", 12);
  const Verdict verdict = end(exited(1, "boom", false, 12));
  EXPECT_EQ(verdict.status, StageStatus::kFailed);
  EXPECT_THAT(verdict.reason, HasSubstr("3 attempts ended so at step 12"));
}

TEST_F(ClassifyExit, ErrorsThatDifferInNumbersAloneAreOneCrashLoop) {
  add_ended(stage, EndClass::kOwnError, "no room: 4.4 MiB needed, 228.0 KiB free", 12);
  add_ended(stage, EndClass::kOwnError, "no room: 4.4 MiB needed, 136.0 KiB free", 12);
  EXPECT_EQ(end(exited(1, "no room: 4.4 MiB needed, 5.0 KiB free", false, 12)).status, StageStatus::kFailed);
}

TEST_F(ClassifyExit, ErrorsAtOtherStepsOrForOtherReasonsAreNoCrashLoop) {
  add_ended(stage, EndClass::kOwnError, "boom", 12);
  add_ended(stage, EndClass::kOwnError, "bang", 13);
  EXPECT_EQ(end(exited(1, "boom", false, 13)).status, StageStatus::kBackoff);
}

TEST_F(ClassifyExit, AttemptsBeforeAResumeDoNotCount) {
  add_ended(stage, EndClass::kOwnError, "boom", 12);
  add_ended(stage, EndClass::kOwnError, "boom", 12);
  stage.counted_after = 2;
  EXPECT_EQ(end(exited(1, "boom", false, 12)).status, StageStatus::kBackoff);
}

TEST_F(ClassifyExit, TooManyRestartsWithoutANewCheckpointFail) {
  cluster.max_restarts = 2;
  stage.restarts = 1;
  EXPECT_EQ(end(exited(137, "killed", true)).status, StageStatus::kBackoff);
  stage.restarts = 2;
  const Verdict verdict = end(exited(137, "killed", true));
  EXPECT_EQ(verdict.status, StageStatus::kFailed);
  EXPECT_THAT(verdict.reason, HasSubstr("cluster.max_restarts: 2"));
}

TEST_F(ClassifyExit, ANewCheckpointResetsTheRestarts) {
  cluster.max_restarts = 2;
  stage.restarts = 2;
  stage.checkpoint_step = 100;
  AttemptObservation seen = exited(137, "killed", true);
  seen.checkpoint_step = 100;
  EXPECT_EQ(end(seen).status, StageStatus::kFailed);
  seen.checkpoint_step = 101;
  EXPECT_EQ(end(seen).status, StageStatus::kBackoff);
  EXPECT_EQ(end(seen).restarts, 1);
}

TEST_F(ClassifyExit, ADeathWhileBeingStoppedIsAStop) {
  stopped_by(StopCause::kPerson, "Ctrl-C");
  EXPECT_EQ(end(gone(ClaimOwner::kWrapper)).status, StageStatus::kStopped);
  EXPECT_EQ(end(exited(137, "killed", true)).status, StageStatus::kStopped);
}

TEST_F(ClassifyExit, AStopForSilenceCountsAsADeathFromOutsideAndSaysSo) {
  stopped_by(StopCause::kSilence, "rank 0 sent no report for 5:00");
  for (const AttemptObservation& seen :
       {exited(75, "interrupted"), exited(1, "x"), gone(ClaimOwner::kWrapper)}) {
    const Verdict verdict = end(seen);
    EXPECT_EQ(verdict.end, EndClass::kOutside);
    EXPECT_EQ(verdict.status, StageStatus::kBackoff);
    EXPECT_THAT(verdict.reason, HasSubstr("rank 0 sent no report for 5:00"));
  }
}

TEST_F(ClassifyExit, ThreeFailedStartsForOneReasonFail) {
  const std::string problem = "mpirun not found";
  for (int i = 0; i < 2; ++i) {
    const Verdict verdict =
        classify_failed_start(stage, add_attempt(stage, AttemptStatus::kIntended), problem, cluster);
    EXPECT_EQ(verdict.status, StageStatus::kBackoff);
    stage.attempts.pop_back();
    add_ended(stage, verdict.end, verdict.attempt_reason, -1);
  }
  const Verdict last =
      classify_failed_start(stage, add_attempt(stage, AttemptStatus::kIntended), problem, cluster);
  EXPECT_EQ(last.status, StageStatus::kFailed);
  EXPECT_THAT(last.reason, HasSubstr("mpirun not found"));
}

}  // namespace
}  // namespace cosub::coordinator
