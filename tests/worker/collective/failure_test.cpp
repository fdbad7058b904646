// What becomes of a job when a rank does not come: runs cosub_failing_ranks under mpirun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <sstream>
#include <string>

#include "common/atomic_file.h"
#include "common/process.h"
#include "tests/support/temporary_folder.h"

namespace cosub::collective {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// Far below the 5 minutes that a rank waits unless told otherwise, far above what a job takes on a busy
// machine.
constexpr std::chrono::seconds kLimit(120);

struct JobEnd {
  int exit_code = 0;  // -1: it did not end within kLimit
  std::string output;
};

JobEnd run_job(const std::string& operation, int ranks) {
  const testing::TemporaryFolder folder;
  SpawnOptions options;
  options.argv = {COSUB_MPIEXEC,
                  "--oversubscribe",
                  "--bind-to",
                  "none",
                  "-n",
                  std::to_string(ranks),
                  executable_folder() / "cosub_failing_ranks"};
  std::istringstream words(operation);
  for (std::string word; words >> word;) options.argv.push_back(word);
  options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  options.output = folder.path() / "output";
  options.die_with_parent = true;
  const auto job = spawn(options);
  const auto exit_code = wait_for_exit(job.pid, kLimit);
  if (!exit_code) send_signal(job, SIGKILL);
  return {exit_code.value_or(-1), read_file(options.output)};
}

class MissingRankTest : public ::testing::TestWithParam<const char*> {};

TEST_P(MissingRankTest, others_name_the_wait_within_the_limit_and_the_job_ends) {
  const std::string operation = GetParam();
  const auto job = run_job(operation, 2);
  EXPECT_THAT(job.output, ContainsRegex("rank 0 of 2 on [^ ]+ waited 300 ms for "));
  EXPECT_THAT(job.output, HasSubstr(operation + " (step 12)"));
  EXPECT_EQ(job.exit_code, 3);
}
INSTANTIATE_TEST_SUITE_P(, MissingRankTest,
                         ::testing::Values("all_reduce_sum", "broadcast", "all_to_all", "all_gather",
                                           "barrier"),
                         [](const auto& operation) { return std::string(operation.param); });

TEST(FailureTest, a_rank_that_never_starts_is_not_waited_for_for_ever) {
  const auto job = run_job("absent", 2);
  EXPECT_THAT(job.output, HasSubstr("waited 2000 ms in MPI_Init_thread, for the job's other ranks"));
  EXPECT_EQ(job.exit_code, 1);
}

TEST(FailureTest, direct_exchanges_name_the_rank_that_is_missing) {
  const auto job = run_job("all_gather", 3);
  EXPECT_THAT(job.output,
              ContainsRegex("rank [01] of 3 on [^ ]+ waited 300 ms for ranks? ([01], )?2 in all_gather"));
}

TEST(FailureTest, a_meeting_names_the_rank_that_is_missing) {
  const auto job = run_job("meet", 3);
  EXPECT_THAT(
      job.output,
      ContainsRegex("rank [01] of 3 on [^ ]+ waited 300 ms for ranks? ([01], )?2 in meet \\(step 12\\)"));
}

TEST(FailureTest, a_meeting_goes_on_after_its_limit_for_as_long_as_it_is_told_to) {
  const auto job = run_job("patient", 3);
  EXPECT_THAT(
      job.output,
      ContainsRegex("rank [01] of 3 on [^ ]+ waited [1-9] s for ranks? ([01], )?2 in meet \\(step 12\\)"));
}

TEST(FailureTest, a_meeting_that_is_cancelled_does_not_wait_for_its_limit) {
  const auto job = run_job("cancelled", 2);
  EXPECT_THAT(job.output, HasSubstr("for rank 1 in meet (step 12)"));
  EXPECT_EQ(job.exit_code, 3);
}

TEST(FailureTest, buckets_are_named) {
  const auto job = run_job("buckets", 2);
  EXPECT_THAT(job.output, HasSubstr("in all_reduce_sum (step 12, bucket 1 of 2)"));
}

TEST(FailureTest, parts_name_the_ranks_of_the_job) {
  const auto job = run_job("part", 3);
  EXPECT_THAT(job.output,
              ContainsRegex("rank 1 of 3 on [^ ]+ waited 300 ms for rank 2 in all_gather \\(step 12\\)"));
  EXPECT_GT(job.exit_code, 0);
}

TEST(FailureTest, a_split_waits_no_longer_than_the_limit) {
  const auto job = run_job("split", 2);
  EXPECT_THAT(job.output, HasSubstr("waited 300 ms for rank 1 in all_gather (step 12)"));
  EXPECT_EQ(job.exit_code, 3);
}

TEST(FailureTest, texts_name_their_wait) {
  const auto job = run_job("all_gather_text", 2);
  EXPECT_THAT(job.output, HasSubstr("waited 300 ms for rank 1 in all_gather (step 12)"));
}

TEST(FailureTest, nothing_is_possible_after_a_failure) {
  const auto job = run_job("twice", 2);
  EXPECT_THAT(job.output, HasSubstr("cannot do barrier (step 13): an earlier operation failed"));
  EXPECT_EQ(job.exit_code, 3);
}

TEST(FailureTest, the_end_of_the_job_waits_no_longer_than_the_limit) {
  const auto job = run_job("end", 2);
  EXPECT_THAT(job.output, HasSubstr("waited 300 ms for the other ranks in barrier (the end of the job)"));
  EXPECT_GT(job.exit_code, 0);
}

TEST(FailureTest, a_rank_that_fails_by_itself_leaves_at_once_and_ends_the_others) {
  const auto job = run_job("unwinding", 3);
  EXPECT_THAT(job.output, HasSubstr("loss is not a number"));
  EXPECT_EQ(job.exit_code, 3);
}

TEST(FailureTest, abort_ends_every_rank_with_its_code) {
  const auto job = run_job("abort", 3);
  EXPECT_EQ(job.exit_code, 42);
}

TEST(FailureTest, a_stopped_rank_is_named_by_the_others_and_the_job_ends_with_it) {
  for (const std::string stopped : {"2", "0"}) {
    const auto job = run_job("stopped " + stopped, 3);
    EXPECT_THAT(
        job.output,
        ContainsRegex("rank [012] of 3 on [^ ]+ waited 3 s for rank " + stopped +
                      " in all_reduce_sum \\(step 12, bucket 1 of 1\\): rank " + stopped +
                      " of 3 on [^ ]+ was last heard [23].. s ago, at step 12, backward, microbatch 3"));
    EXPECT_THAT(job.output, ::testing::Not(HasSubstr("the other ranks")));
    EXPECT_EQ(job.exit_code, 3);
  }
}

}  // namespace
}  // namespace cosub::collective
