#include "coordinator/decide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/situation.h"

namespace cosub::coordinator {
namespace {

using namespace cosub::testing;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Instant kNow{1'000'000};

/// The decision about the first stage; fails the test where there is none.
Decision only(const std::vector<Decision>& decisions) {
  if (decisions.empty()) {
    ADD_FAILURE() << "no decision";
    return {};
  }
  EXPECT_EQ(decisions.front().stage, "pretrain");
  return decisions.front();
}

class Decide : public ::testing::Test {
 protected:
  PipelineState pipeline = three_stages();
  StageState& pretrain = pipeline.stages[0];

  AttemptState& attempt(AttemptStatus status) {
    AttemptState& made = add_attempt(pretrain, status);
    made.since = kNow;
    return made;
  }
  Decision decision(const AttemptObservation& seen, Instant now = kNow) {
    return only(decide(now, pipeline, {{"pretrain", seen}}));
  }
  bool nothing(const AttemptObservation& seen, Instant now = kNow) {
    for (const Decision& made : decide(now, pipeline, {{"pretrain", seen}}))
      if (made.stage == "pretrain") return false;
    return true;
  }
};

TEST_F(Decide, StartsTheFirstStageAndLetsTheOthersSayWhatTheyWaitFor) {
  const auto decisions = decide(kNow, pipeline, {});
  ASSERT_EQ(decisions.size(), 3u);
  EXPECT_EQ(decisions[0].action, Action::kCreateAttempt);
  EXPECT_EQ(decisions[1].status, StageStatus::kWaiting);
  EXPECT_EQ(decisions[1].reason, "waits for stage pretrain");
}

TEST_F(Decide, StartsANextStageOnlyWhenTheOneBeforeSucceeded) {
  pretrain.status = StageStatus::kSucceeded;
  const auto decisions = decide(kNow, pipeline, {});
  EXPECT_EQ(decisions[0].stage, "finetune");
  EXPECT_EQ(decisions[0].action, Action::kCreateAttempt);
}

TEST_F(Decide, RunsIndependentStagesOneAtATime) {
  pipeline.config.stages[1].init.stage.clear();
  const auto decisions = decide(kNow, pipeline, {});
  int started = 0;
  for (const Decision& made : decisions) started += made.action == Action::kCreateAttempt;
  EXPECT_EQ(started, 1);
  attempt(AttemptStatus::kRunning);
  const auto later = decide(kNow, pipeline, {{"pretrain", running()}});
  ASSERT_FALSE(later.empty());
  EXPECT_EQ(later[0].stage, "finetune");
  EXPECT_EQ(later[0].status, StageStatus::kReady);
  EXPECT_THAT(later[0].reason, HasSubstr("until stage pretrain leaves its ranks"));
}

TEST_F(Decide, IsSilentWhileAnAttemptRunsAndReports) {
  attempt(AttemptStatus::kRunning).last_report = kNow - 1s;
  EXPECT_TRUE(nothing(running()));
}

TEST_F(Decide, AdoptsAnIntendedAttemptThatIsFoundRunning) {
  attempt(AttemptStatus::kIntended);
  EXPECT_EQ(decision(running()).action, Action::kAdopt);
}

TEST_F(Decide, VoidsAnAttemptOfWhichNothingIsToBeFound) {
  attempt(AttemptStatus::kIntended);
  EXPECT_EQ(decision(gone(ClaimOwner::kNobody)).action, Action::kVoid);
}

TEST_F(Decide, ClearsUpBeforeItEndsAnAttempt) {
  attempt(AttemptStatus::kRunning);
  EXPECT_EQ(decision(exited(1, "boom")).action, Action::kClear);
  pretrain.attempts.back().cleared = true;
  EXPECT_EQ(decision(exited(1, "boom")).action, Action::kEnd);
}

TEST_F(Decide, ReplacesAVoidedAttemptAtOnce) {
  attempt(AttemptStatus::kIntended).cleared = true;
  const Decision made = decision(gone(ClaimOwner::kCoordinator));
  EXPECT_EQ(made.action, Action::kEnd);
  EXPECT_EQ(made.verdict.end, EndClass::kVoided);
  EXPECT_EQ(made.verdict.status, StageStatus::kReady);
  EXPECT_EQ(made.verdict.restarts, 0);
}

TEST_F(Decide, CountsAVanishedWrapperAsADeathFromOutside) {
  attempt(AttemptStatus::kRunning).cleared = true;
  const Decision made = decision(gone(ClaimOwner::kWrapper));
  EXPECT_EQ(made.verdict.end, EndClass::kOutside);
  EXPECT_EQ(made.verdict.backoff, 200ms);
  EXPECT_THAT(made.reason, HasSubstr("(attempt 1 of stage pretrain)"));
}

TEST_F(Decide, StopsAnAttemptThatNeverReports) {
  attempt(AttemptStatus::kStarted);
  EXPECT_TRUE(nothing(running(), kNow + 299s));
  const Decision made = decision(running(), kNow + 300s);
  EXPECT_EQ(made.action, Action::kAskStop);
  EXPECT_EQ(made.cause, StopCause::kSilence);
  EXPECT_THAT(made.reason, HasSubstr("start_timeout"));
}

TEST_F(Decide, StopsAnAttemptThatFellSilent) {
  pipeline.config.cluster.report_timeout = 60s;
  attempt(AttemptStatus::kRunning).last_report = kNow;
  EXPECT_TRUE(nothing(running(), kNow + 59s));
  EXPECT_THAT(decision(running(), kNow + 60s).reason, HasSubstr("report_timeout"));
}

TEST_F(Decide, CountsSilenceOfAnAdoptedAttemptFromTheAdoption) {
  pipeline.config.cluster.report_timeout = 60s;
  attempt(AttemptStatus::kRunning).since = kNow + 30s;
  EXPECT_TRUE(nothing(running(), kNow + 89s));
  EXPECT_FALSE(nothing(running(), kNow + 90s));
}

TEST_F(Decide, AsksARunningStageToStopOnce) {
  AttemptState& live = attempt(AttemptStatus::kRunning);
  live.last_report = kNow;
  pipeline.goal = Goal::kStop;
  pipeline.goal_reason = "Ctrl-C";
  const Decision made = decision(running());
  EXPECT_EQ(made.action, Action::kAskStop);
  EXPECT_EQ(made.stop, StopRequest::kCheckpoint);
  EXPECT_EQ(made.reason, "Ctrl-C");
  live.stop = StopRequest::kCheckpoint;
  live.stop_cause = StopCause::kPerson;
  live.stop_sent = kNow;
  live.stop_sent_as = StopRequest::kCheckpoint;
  EXPECT_TRUE(nothing(running()));
  pipeline.goal = Goal::kStopNow;
  EXPECT_EQ(decision(running()).stop, StopRequest::kNow);
}

TEST_F(Decide, RepeatsAStopThatIsOnRecordButWasNotSentByThisProcess) {
  AttemptState& live = attempt(AttemptStatus::kRunning);
  pipeline.goal = Goal::kStop;
  live.stop = StopRequest::kCheckpoint;
  live.stop_cause = StopCause::kPerson;
  EXPECT_EQ(decision(running()).action, Action::kAskStop);
}

TEST_F(Decide, KillsWhatDoesNotStopWithinItsGrace) {
  pipeline.config.cluster.grace = 60s;
  AttemptState& live = attempt(AttemptStatus::kRunning);
  pipeline.goal = Goal::kStop;
  live.stop = live.stop_sent_as = StopRequest::kCheckpoint;
  live.stop_cause = StopCause::kPerson;
  live.stop_sent = kNow;
  EXPECT_TRUE(nothing(running(), kNow + 60s + kKillMargin - 1ms));
  EXPECT_EQ(decision(running(), kNow + 60s + kKillMargin).action, Action::kKill);
  live.kills = 1;
  EXPECT_TRUE(nothing(running(), kNow + 60s + kKillMargin));
  EXPECT_EQ(decision(running(), kNow + 60s + 2 * kKillMargin).action, Action::kKill);
}

TEST_F(Decide, GivesUpAWrapperOnAHostThatCannotBeAskedOnlyAfterAllSignals) {
  AttemptState& live = attempt(AttemptStatus::kRunning);
  live.last_report = kNow;
  AttemptObservation seen = running();
  seen.liveness = launcher::Liveness::kUnknown;
  EXPECT_TRUE(nothing(seen));
  live.kills = 3;
  EXPECT_EQ(decision(seen).action, Action::kClear);
}

TEST_F(Decide, WaitsOutABackoffThenStartsAgain) {
  pretrain.status = StageStatus::kBackoff;
  pretrain.backoff = 4s;
  pretrain.backoff_since = kNow;
  EXPECT_TRUE(nothing({}, kNow + 3999ms));
  EXPECT_EQ(only(decide(kNow + 4s, pipeline, {})).action, Action::kCreateAttempt);
}

TEST_F(Decide, StopsAStageInBackoffWithoutAnAttempt) {
  pretrain.status = StageStatus::kBackoff;
  pretrain.backoff = 4s;
  pipeline.goal = Goal::kStop;
  const Decision made = only(decide(kNow, pipeline, {}));
  EXPECT_EQ(made.action, Action::kSetStage);
  EXPECT_EQ(made.status, StageStatus::kStopped);
}

TEST_F(Decide, StartsNothingWhileThePipelineIsToStop) {
  pipeline.goal = Goal::kStop;
  EXPECT_THAT(decide(kNow, pipeline, {}), IsEmpty());
}

TEST_F(Decide, GoesOnAfterAStopThatWasTakenBackMeanwhile) {
  AttemptState& live = attempt(AttemptStatus::kRunning);
  live.stop = StopRequest::kCheckpoint;
  live.stop_cause = StopCause::kPerson;
  live.cleared = true;
  EXPECT_EQ(decision(exited(75, "interrupted")).verdict.status, StageStatus::kReady);
}

TEST_F(Decide, NeverRunsAStageWhoseSourceFailed) {
  pretrain.status = StageStatus::kFailed;
  for (const Decision& made : decide(kNow, pipeline, {})) EXPECT_EQ(made.action, Action::kSetStage);
  EXPECT_EQ(pipeline_status(pipeline).state, "failed");
}

TEST_F(Decide, CallsThePipelineFailedOnlyWhenNothingElseCanRun) {
  pretrain.status = StageStatus::kFailed;
  pretrain.reason = "disk on fire";
  pipeline.config.stages[2].init.stage.clear();
  EXPECT_EQ(pipeline_status(pipeline).state, "running");
  pipeline.stages[2].status = StageStatus::kSucceeded;
  EXPECT_EQ(pipeline_status(pipeline).state, "failed");
  EXPECT_THAT(pipeline_status(pipeline).reason, HasSubstr("disk on fire"));
}

TEST_F(Decide, CallsThePipelineStoppingUntilItsAttemptIsOver) {
  pipeline.goal = Goal::kStop;
  attempt(AttemptStatus::kRunning);
  EXPECT_EQ(pipeline_status(pipeline).state, "stopping");
  pretrain.attempts.back().status = AttemptStatus::kEnded;
  pretrain.status = StageStatus::kStopped;
  EXPECT_EQ(pipeline_status(pipeline).state, "stopped");
}

}  // namespace
}  // namespace cosub::coordinator
