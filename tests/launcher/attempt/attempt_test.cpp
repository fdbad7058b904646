#include <gmock/gmock.h>
#include <signal.h>

#include "common/protocol.h"
#include "tests/launcher/attempt/job.h"

namespace cosub::launcher {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr auto kReady = "ready=FOLDER";

TEST(Attempt, RecordsACompleteJob) {
  Job job({kReady});
  job.start();
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 0) << job.log();
  EXPECT_EQ(record.reason, "complete");
  EXPECT_FALSE(record.from_outside);
  EXPECT_GT(record.seconds, 0);
  EXPECT_EQ(job.wrapper_status, 0);
  EXPECT_TRUE(fs::exists(job.folder() / "ready-1"));
}

TEST(Attempt, GivesEveryRankItsEnvironmentAndNoStandardInput) {
  Job job({});
  job.spec.environment = {{"COSUB_TEST_VALUE", "a 'b';c,d=e"}};
  job.spec.worker_argv = {"/bin/sh", "-c",
                          "echo \"$COSUB_TEST_VALUE/$COSUB_ATTEMPT/$OMP_WAIT_POLICY\" > " +
                              job.folder().string() + "/seen-$OMPI_COMM_WORLD_RANK; cat"};
  job.start();
  EXPECT_EQ(job.finish().exit_code, 0) << job.log();
  for (const char* rank : {"0", "1"}) {
    EXPECT_EQ(read_file(job.folder() / (std::string("seen-") + rank)),
              "a 'b';c,d=e/" + job.spec.uuid + "/passive\n");
  }
}

TEST(Attempt, TakesTheReasonOfTheRankThatWroteAnErrorFile) {
  Job job({kReady, "error=FOLDER@1", "exit=78@1", "wait"});
  job.start();
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 78);
  EXPECT_EQ(record.reason, "no image in train");
  EXPECT_EQ(record.failed_rank, 1);
  EXPECT_EQ(record.step, 41);
  EXPECT_FALSE(record.from_outside);
  EXPECT_EQ(job.wrapper_status, 78);
}

TEST(Attempt, NamesTheRankThatExitedWithoutAWord) {
  Job job({kReady, "exit=3@1", "wait"});
  job.start();
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 3);
  EXPECT_THAT(record.reason, HasSubstr("rank 1 exited with code 3"));
  EXPECT_EQ(record.failed_rank, 1);
  EXPECT_FALSE(record.from_outside);
}

TEST(Attempt, StopsOnRequestAfterACheckpoint) {
  Job job({kReady, "wait"});
  job.start();
  job.wait_until_ready();
  EXPECT_EQ(job.backend.probe(job.folder(), job.spec.uuid), Liveness::kRunning);
  EXPECT_TRUE(job.backend.stop(job.folder(), false));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 75) << job.log();
  EXPECT_EQ(record.reason, "stopped on request after a checkpoint");
  EXPECT_TRUE(record.from_outside);
  EXPECT_EQ(job.backend.probe(job.folder(), job.spec.uuid), Liveness::kGone);
  EXPECT_FALSE(job.backend.stop(job.folder(), false));
}

TEST(Attempt, StopBeforeTheRanksAreUpEndsInTimeAndCanBeContinued) {
  Job job({kReady, "wait"});
  job.start();
  EXPECT_TRUE(wait_until([&] { return read_claim(job.folder()).has_value(); }));
  EXPECT_TRUE(job.backend.stop(job.folder(), false));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 75) << job.log();
  EXPECT_TRUE(record.from_outside);
}

TEST(Attempt, RepeatsTheRequestBecauseMpirunMayDropOne) {
  Job job({kReady, "wait=2"}, 1);
  job.start();
  job.wait_until_ready();
  EXPECT_TRUE(job.backend.stop(job.folder(), false));
  EXPECT_EQ(job.finish().exit_code, 75);
}

TEST(Attempt, HangUpAndInterruptOfATerminalAreNotForIt) {
  Job job({kReady, "wait"});
  job.start();
  job.wait_until_ready();
  send_signal(job.wrapper, SIGHUP);
  send_signal(job.wrapper, SIGINT);
  EXPECT_TRUE(job.backend.stop(job.folder(), false));
  EXPECT_EQ(job.finish().exit_code, 75);
}

TEST(Attempt, EndsAtOnceOnQuit) {
  Job job({kReady, "hang"});
  job.start();
  job.wait_until_ready();
  EXPECT_TRUE(job.backend.stop(job.folder(), true));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 137);
  EXPECT_THAT(record.reason, HasSubstr("at once"));
  EXPECT_TRUE(record.from_outside);
}

TEST(Attempt, EndsRanksThatIgnoreTheRequestAfterTheGrace) {
  Job job({kReady, "hang"});
  job.spec.grace = 300ms;
  job.start();
  job.wait_until_ready();
  EXPECT_TRUE(job.backend.stop(job.folder(), false));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 128 + SIGTERM);
  EXPECT_THAT(record.reason, HasSubstr("did not stop within"));
  EXPECT_TRUE(record.from_outside);
}

TEST(Attempt, KillsAnMpirunThatIgnoresEvenTheTermSignal) {
  Job job({kReady, "hang"});
  job.spec.grace = 100ms;
  job.start();
  job.wait_until_ready();
  ASSERT_TRUE(send_signal(job.mpirun_process(), SIGSTOP));
  EXPECT_TRUE(job.backend.stop(job.folder(), false));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 128 + SIGKILL);
  EXPECT_THAT(record.reason, HasSubstr("killed"));
}

TEST(Attempt, NamesTheRankThatWasKilled) {
  Job job({kReady, "wait"}, 3);
  job.start();
  job.wait_until_ready();
  ASSERT_TRUE(send_signal(job.rank_process(2), SIGKILL));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 137);
  EXPECT_EQ(record.reason, "rank 2 on " + host_name() + " killed by signal 9 (SIGKILL)");
  EXPECT_EQ(record.failed_rank, 2);
  EXPECT_TRUE(record.from_outside);
}

TEST(Attempt, RecordsTheDeathOfMpirun) {
  Job job({kReady, "wait"});
  job.start();
  job.wait_until_ready();
  ASSERT_TRUE(send_signal(job.mpirun_process(), SIGKILL));
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 137);
  EXPECT_EQ(record.reason, "mpirun killed by signal 9 (SIGKILL)");
  EXPECT_TRUE(record.from_outside);
}

TEST(Attempt, NothingOutlivesAKilledWrapper) {
  Job job({kReady, "wait"});
  job.start();
  job.wait_until_ready();
  ASSERT_TRUE(send_signal(job.wrapper, SIGKILL));
  EXPECT_TRUE(wait_until([&] { return find_processes_of_attempt(job.spec.uuid).empty(); }, 10s));
  EXPECT_FALSE(read_exit(job.folder()).has_value());
  EXPECT_EQ(job.backend.probe(job.folder(), job.spec.uuid), Liveness::kGone);
}

TEST(Attempt, LeavesNoStrayChildOfARankBehind) {
  Job job({});
  job.spec.worker_argv = {"/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 0"};
  job.start();
  EXPECT_EQ(job.finish().exit_code, 0) << job.log();
}

TEST(Attempt, OneOfTwoRacingWrappersRunsTheJob) {
  for (int race = 0; race < 20; ++race) {
    Job job({"ready=FOLDER", "exit=0"}, 1);
    job.start();
    const ProcessId second = job.start_wrapper(job.spec.uuid, "second.log");
    const auto second_status = wait_for_exit(second.pid, 30s);
    const auto first_status = wait_for_exit(job.wrapper.pid, 30s);
    job.wrapper.pid = 0;
    ASSERT_TRUE(first_status && second_status);
    EXPECT_EQ(*first_status + *second_status, 1) << "exactly one ends with 0, the other with 1";
    const std::string loser_log = *first_status == 1 ? job.log() : read_file(job.folder() / "second.log");
    EXPECT_THAT(loser_log, HasSubstr("is claimed by the wrapper"));
    EXPECT_EQ(read_exit(job.folder()).value().exit_code, 0);
  }
}

TEST(Attempt, ACoordinatorsClaimVoidsIt) {
  Job job({kReady});
  const ProcessId us{getpid(), start_time_of(getpid()).value()};
  ASSERT_TRUE(take_claim(job.folder(), {"coordinator", host_name(), boot_id(), us}));
  job.start();
  EXPECT_EQ(wait_for_exit(job.wrapper.pid, 20s), 1);
  job.wrapper.pid = 0;
  EXPECT_THAT(job.log(), HasSubstr("claimed by the coordinator"));
  EXPECT_FALSE(fs::exists(job.folder() / "ready-0"));
  EXPECT_FALSE(read_exit(job.folder()).has_value());
}

TEST(Attempt, NamesAMissingWorkerProgram) {
  Job job({});
  job.spec.worker_argv = {"/nowhere/cosub-worker"};
  job.start();
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 78);
  EXPECT_THAT(record.reason, HasSubstr("/nowhere/cosub-worker is missing"));
}

TEST(Attempt, NamesADamagedLaunchFile) {
  Job job({});
  write_file_atomically(job.folder() / "launch.json", "{\"uuid\": 7}");
  job.wrapper = job.start_wrapper(job.spec.uuid);
  const ExitRecord record = job.finish();
  EXPECT_EQ(record.exit_code, 78);
  EXPECT_EQ(job.wrapper_status, 78);
  EXPECT_THAT(record.reason, HasSubstr("launch.json: damaged: field 'uuid'"));
}

TEST(Attempt, RefusesALaunchFileOfAnotherAttempt) {
  Job job({kReady});
  write_launch(job.spec);
  job.wrapper = job.start_wrapper(new_uuid());
  EXPECT_THAT(job.finish().reason, HasSubstr("is for attempt " + job.spec.uuid));
  EXPECT_FALSE(fs::exists(job.folder() / "ready-0"));
}

TEST(Attempt, TakesTheStepFromTheLastStatus) {
  Job job({kReady, "wait"});
  job.start();
  job.wait_until_ready();
  protocol::Report report;
  report.progress.step = 1234;
  write_file_atomically(job.folder() / "status.json", protocol::dump(report));
  ASSERT_TRUE(send_signal(job.rank_process(0), SIGKILL));
  EXPECT_EQ(job.finish().step, 1234);
}

}  // namespace
}  // namespace cosub::launcher
