#include "launcher/attempt/exit_reason.h"

#include <gmock/gmock.h>
#include <signal.h>

#include "common/atomic_file.h"
#include "tests/support/temporary_folder.h"

// The texts are what Open MPI 4.1.4 printed.
namespace cosub::launcher {
namespace {

using ::testing::HasSubstr;

const std::string kKilled =
    "--------------------------------------------------------------------------\n"
    "Primary job  terminated normally, but 1 process returned\n"
    "a non-zero exit code. Per user-direction, the job has been aborted.\n"
    "--------------------------------------------------------------------------\n"
    "mpirun noticed that process rank 1 with PID 0 on node n7 exited on signal 11 (Segmentation fault).\n";

JobEnd ended(int exit_code, std::string log = "") {
  JobEnd end;
  end.wait_status = exit_code << 8;
  end.log = std::move(log);
  return end;
}

JobEnd killed(int signal) {
  JobEnd end;
  end.wait_status = signal;
  return end;
}

TEST(ExitReason, RankKilledByASignal) {
  const ExitRecord record = exit_record(ended(139, kKilled));
  EXPECT_EQ(record.exit_code, 139);
  EXPECT_EQ(record.reason, "rank 1 on n7 killed by signal 11 (SIGSEGV)");
  EXPECT_EQ(record.failed_rank, 1);
  EXPECT_TRUE(record.from_outside);
}

TEST(ExitReason, ErrorsOfOthersOnlyFollowFromARanksDeath) {
  JobEnd end = ended(139, kKilled);
  end.errors = {{0, "rank 1 is silent", 7, 1, "n7"}};
  EXPECT_EQ(exit_record(end).reason, "rank 1 on n7 killed by signal 11 (SIGSEGV)");
  end.errors.push_back({1, "loss is not finite", 8, 1, "n7"});
  const ExitRecord record = exit_record(end);
  EXPECT_EQ(record.reason, "loss is not finite");
  EXPECT_EQ(record.step, 8);
  EXPECT_FALSE(record.from_outside);
}

TEST(ExitReason, TheEarliestErrorFileWins) {
  JobEnd end = ended(1);
  end.errors = {{2, "no space left", 5, 1, "a"}, {0, "lost rank 2", 5, 1, "b"}};
  EXPECT_EQ(exit_record(end).reason, "no space left");
  EXPECT_EQ(exit_record(end).failed_rank, 2);
}

TEST(ExitReason, LostHostIsFromOutsideWhateverRanksSay) {
  JobEnd end =
      ended(205,
            "ORTE has lost communication with a remote daemon.\n\n"
            "  HNP daemon   : [[20305,0],0] on node vm\n  Remote daemon: [[20305,0],2] on node h2\n");
  end.errors = {{0, "rank 1 is silent", 7, 1, "vm"}};
  const ExitRecord record = exit_record(end);
  EXPECT_THAT(record.reason, HasSubstr("lost the connection to host h2"));
  EXPECT_TRUE(record.from_outside);
}

TEST(ExitReason, WorkerMissingOnAHost) {
  const ExitRecord record =
      exit_record(ended(132,
                        "mpirun was unable to launch the specified application as it could not access\n"
                        "or execute an executable:\n\nExecutable: /opt/my cosub/worker\nNode: h1\n\n"
                        "while attempting to start process rank 0.\n"));
  EXPECT_EQ(record.exit_code, 1) << "132 is no death by signal";
  EXPECT_THAT(record.reason, HasSubstr("/opt/my cosub/worker cannot be run on h1"));
  EXPECT_FALSE(record.from_outside);
}

TEST(ExitReason, RankThatAborted) {
  const ExitRecord record = exit_record(
      ended(42, "MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD\nwith errorcode 42.\n"));
  EXPECT_EQ(record.exit_code, 42);
  EXPECT_EQ(record.failed_rank, 3);
}

TEST(ExitReason, OtherwiseTheFirstThingMpirunSaid) {
  EXPECT_EQ(exit_record(ended(255, "[1,0]<stdout>:hello\nssh: Could not resolve hostname x\n-----\nORTE was"))
                .reason,
            "mpirun exited with code 255: ssh: Could not resolve hostname x");
}

TEST(ExitReason, OutputOfRanksIsNotTakenForMpiruns) {
  const ExitRecord record = exit_record(ended(3,
                                              "[1,0]<stderr>:mpirun noticed that process rank 9 with PID 0 "
                                              "on node n7 exited on signal 9 (Killed).\n"));
  EXPECT_EQ(record.failed_rank, -1);
  EXPECT_FALSE(record.from_outside);
}

TEST(ExitReason, CompleteWhateverHappenedBefore) {
  JobEnd end = ended(0);
  end.stop = StopStage::kAsked;
  EXPECT_EQ(exit_record(end).reason, "complete");
}

TEST(ExitReason, AStopThatCameBeforeTheRanksCouldHandleItCanBeContinued) {
  JobEnd end = killed(SIGUSR1);
  end.stop = StopStage::kAsked;
  EXPECT_EQ(exit_record(end).exit_code, 75);
  end = ended(
      138,
      "mpirun noticed that process rank 0 with PID 0 on node a exited on signal 10 (User defined signal 1).");
  end.stop = StopStage::kAsked;
  EXPECT_EQ(exit_record(end).exit_code, 75);
  end.stop = StopStage::kNone;
  EXPECT_EQ(exit_record(end).exit_code, 138);
  end.started = false;
  EXPECT_EQ(exit_record(end).exit_code, 75);
}

TEST(ExitReason, AnErrorDuringAStopIsStillAnError) {
  JobEnd end = ended(1);
  end.stop = StopStage::kAsked;
  end.errors = {{0, "no space left", 5, 1, "a"}};
  EXPECT_EQ(exit_record(end).reason, "no space left");
  end.wait_status = SIGUSR1;
  EXPECT_EQ(exit_record(end).reason, "no space left") << "mpirun died of a late repeat of the request";
}

TEST(ExitReason, ErrorFilesComeEarliestFirstAndDamagedOnesAreLeftOut) {
  testing::TemporaryFolder folder;
  const auto write = [&](int rank, int age_s) {
    const auto path = folder / ("error-rank-" + std::to_string(rank) + ".json");
    write_file_atomically(
        path, R"({"rank":)" + std::to_string(rank) + R"(,"reason":"r","step":1,"exit_code":1,"host":"h"})");
    std::filesystem::last_write_time(
        path, std::filesystem::file_time_type::clock::now() - std::chrono::seconds(age_s));
  };
  write(0, 1);
  write(1, 9);
  write(2, 5);
  write_file_atomically(folder / "error-rank-3.json", "{\"rank\":");
  ::testing::internal::CaptureStderr();
  const std::vector<RankError> errors = read_rank_errors(folder.path());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("error-rank-3.json: damaged"));
  ASSERT_EQ(errors.size(), 3);
  EXPECT_EQ(errors[0].rank, 1);
  EXPECT_EQ(errors[1].rank, 2);
  EXPECT_EQ(errors[2].rank, 0);
}

}  // namespace
}  // namespace cosub::launcher
