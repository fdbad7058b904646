// The watch over a GPU's operations, with marks and a clock of the test's.
#include "worker/collective/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace cosub::collective {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

/// A GPU that writes its marks, a clock, and one who looks.
class WatchTest : public ::testing::Test {
 protected:
  void begin(std::uint64_t number) { seen_.mark = Watch::begun(number); }
  void end(std::uint64_t number) { seen_.mark = Watch::ended(number); }
  void pass(milliseconds time) { now_ += time; }
  /// "" where nothing is to be reported.
  std::string look() {
    const auto late = watch_.look(seen_, now_, kLimit, cancelled_);
    return late ? late->what() : "";
  }

  static constexpr milliseconds kLimit{5000};
  Watch watch_{"rank 1 of 4 on node3"};
  Watch::Seen seen_;
  Watch::Time now_;
  bool cancelled_ = false;
};

TEST_F(WatchTest, an_operation_past_its_limit_is_reported_as_every_wait_is) {
  const auto number = watch_.add("all_reduce_sum", "step 12, bucket 3 of 5", false);
  begin(number);
  EXPECT_EQ(look(), "");
  pass(kLimit - milliseconds(1));
  EXPECT_EQ(look(), "");
  pass(milliseconds(1));
  EXPECT_EQ(look(),
            "rank 1 of 4 on node3 waited 5 s for the other ranks in all_reduce_sum (step 12, bucket 3 of 5)");
}

TEST_F(WatchTest, time_counts_from_when_the_gpu_comes_to_the_operation) {
  const auto number = watch_.add("broadcast", "parameters", false);
  EXPECT_EQ(look(), "");
  pass(10 * kLimit);  // the GPU computes
  EXPECT_EQ(look(), "");
  begin(number);
  EXPECT_EQ(look(), "");
  pass(kLimit);
  EXPECT_THAT(look(), HasSubstr("broadcast (parameters)"));
}

TEST_F(WatchTest, what_ends_in_time_is_forgotten) {
  for (int i = 0; i < 100; ++i) {
    const auto number = watch_.add("all_reduce_sum", "step " + std::to_string(i), false);
    begin(number);
    EXPECT_EQ(look(), "");
    pass(kLimit - milliseconds(1));
    EXPECT_EQ(look(), "");
    end(number);
    EXPECT_EQ(look(), "");
    EXPECT_EQ(watch_.under_way(), "");
  }
  EXPECT_LE(watch_.num_known(), 1U);
}

TEST_F(WatchTest, each_operation_has_its_own_time_also_when_no_look_falls_between) {
  const auto first = watch_.add("all_reduce_sum", "step 1, bucket 1 of 2", false);
  const auto second = watch_.add("all_reduce_sum", "step 1, bucket 2 of 2", false);
  begin(first);
  look();
  pass(kLimit - milliseconds(1));
  begin(second);
  EXPECT_EQ(look(), "");
  pass(kLimit - milliseconds(1));
  EXPECT_EQ(look(), "");
  EXPECT_EQ(watch_.under_way(), "all_reduce_sum (step 1, bucket 2 of 2)");
  pass(milliseconds(1));
  EXPECT_THAT(look(), HasSubstr("bucket 2 of 2"));
}

TEST_F(WatchTest, a_replayed_operation_is_named_by_the_step_that_runs) {
  const auto number = watch_.add("all_reduce_sum", "step 3, bucket 2 of 5", true);
  seen_.step = 4711;
  begin(number);
  look();
  pass(kLimit);
  EXPECT_THAT(look(), HasSubstr("in all_reduce_sum (step 4711, bucket 2 of 5)"));
}

TEST_F(WatchTest, without_a_step_a_replayed_operation_keeps_its_name) {
  begin(watch_.add("all_reduce_sum", "step 3, bucket 2 of 5", true));
  look();
  pass(kLimit);
  EXPECT_THAT(look(), HasSubstr("step 3, bucket 2 of 5"));
}

TEST_F(WatchTest, an_operation_that_is_not_replayed_keeps_the_step_that_it_was_queued_in) {
  seen_.step = 8;
  begin(watch_.add("all_reduce_sum", "step 7, bucket 2 of 5", false));
  look();
  EXPECT_EQ(watch_.under_way(), "all_reduce_sum (step 7, bucket 2 of 5)");
}

TEST_F(WatchTest, looks_that_always_meet_the_same_operation_of_different_replays_are_no_wait) {
  const auto number = watch_.add("all_reduce_sum", "step 3, bucket 1 of 1", true);
  for (seen_.step = 3; seen_.step < 100; ++seen_.step) {
    begin(number);
    EXPECT_EQ(look(), "");
    pass(kLimit / 2);
  }
  pass(kLimit / 2);
  --seen_.step;  // as at the last look
  EXPECT_THAT(look(), HasSubstr("step 99, bucket 1 of 1"));
}

TEST_F(WatchTest, replays_and_single_operations_mix) {
  const auto in_graph = watch_.add("all_reduce_sum", "step 3, bucket 1 of 1", true);
  for (seen_.step = 3; seen_.step < 50; ++seen_.step) {
    begin(in_graph);
    EXPECT_EQ(look(), "");
    EXPECT_THAT(watch_.under_way(), HasSubstr("step " + std::to_string(seen_.step)));
    end(in_graph);
    EXPECT_EQ(look(), "");
    const auto single = watch_.add("all_reduce_sum", "counts of the evaluation", false);
    const auto queued_too = watch_.add("all_reduce_sum", "losses of the evaluation", false);
    begin(single);
    EXPECT_EQ(look(), "");
    EXPECT_EQ(watch_.under_way(), "all_reduce_sum (counts of the evaluation)");
    begin(queued_too);
    EXPECT_EQ(look(), "");
    EXPECT_EQ(watch_.under_way(), "all_reduce_sum (losses of the evaluation)");
    end(queued_too);
  }
  EXPECT_LE(watch_.num_known(), 4U);
}

TEST_F(WatchTest, a_mark_of_a_graph_does_not_make_queued_operations_nameless) {
  const auto in_graph = watch_.add("all_reduce_sum", "step 3, bucket 1 of 1", true);
  const auto queued = watch_.add("broadcast", "late", false);
  const auto in_second_graph = watch_.add("all_reduce_sum", "step 9, bucket 1 of 1", true);
  begin(in_second_graph);
  look();
  begin(in_graph);
  look();
  begin(queued);
  look();
  EXPECT_EQ(watch_.under_way(), "broadcast (late)");
}

TEST_F(WatchTest, cancelled_means_that_no_limit_is_left_for_what_is_under_way) {
  const auto number = watch_.add("all_reduce_sum", "step 1", false);
  cancelled_ = true;
  EXPECT_EQ(look(), "");
  begin(number);
  EXPECT_THAT(look(), HasSubstr("all_reduce_sum (step 1)"));
}

TEST(AtStepTest, only_a_step_at_the_beginning_is_brought_up_to_date) {
  EXPECT_EQ(at_step("step 3, bucket 1 of 5", 40), "step 40, bucket 1 of 5");
  EXPECT_EQ(at_step("step 3", 40), "step 40");
  EXPECT_EQ(at_step("step by step", 40), "step by step");
  EXPECT_EQ(at_step("counts, step 3", 40), "counts, step 3");
  EXPECT_EQ(at_step("", 40), "");
}

TEST(FirstErrorTest, the_first_error_is_thrown_each_time) {
  FirstError error;
  error.check();
  EXPECT_FALSE(error.is_set());
  error.set(std::make_exception_ptr(WaitLimitError("rank 0", milliseconds(300), "rank 1", "barrier")));
  error.set(std::make_exception_ptr(std::runtime_error("another")));
  EXPECT_TRUE(error.is_set());
  for (int i = 0; i < 2; ++i) EXPECT_THROW(error.check(), WaitLimitError);
}

}  // namespace
}  // namespace cosub::collective
