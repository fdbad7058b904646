// Each bad sample is known, listed and logged once.
#include "worker/train/bad_samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "worker/collective/single_communicator.h"

namespace cosub::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class BadSamplesTest : public ::testing::Test {
 protected:
  /// What rank 0 logs of them in a step.
  std::string log_of(std::int64_t step, std::vector<data::BadSample> found) {
    bad_samples_.keep_new(found);
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    bad_samples_.exchange(step);
    return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  }

  testing::TemporaryFolder folder_;
  collective::SingleCommunicator alone_;
  BadSamples bad_samples_{alone_, folder_ / "bad_samples.tsv"};
};

TEST_F(BadSamplesTest, AreListedAndLoggedByNameOnce) {
  EXPECT_THAT(log_of(3, {{7, "a.jpg: cut short"}, {7, "a.jpg: cut short"}}),
              HasSubstr("step 3: bad sample replaced: a.jpg: cut short"));
  EXPECT_THAT(log_of(4, {{7, "a.jpg: cut short"}}), IsEmpty());
  EXPECT_EQ(read_file(folder_ / "bad_samples.tsv"), "sample\tstep\treason\n7\t3\ta.jpg: cut short\n");
  EXPECT_EQ(bad_samples_.last_reason(), "a.jpg: cut short");
}

TEST_F(BadSamplesTest, OfAShardThatIsGoneAreListedEachAndLoggedTogether) {
  const std::string cause = "1.tar: the shard is gone; none of its 900 samples can be read";
  std::vector<data::BadSample> found;
  for (std::int64_t i = 0; i < 5; ++i)
    found.push_back({i, "sample " + std::to_string(i) + " of 1.tar: the shard is gone", cause});
  found.push_back({5, "sample 0 of 2.tar: the shard is gone", "2.tar: the shard is gone; none of its 9"});
  const std::string log = log_of(3, found);
  EXPECT_THAT(log, AllOf(HasSubstr(cause), HasSubstr("2.tar"), Not(HasSubstr("sample 1 of"))));
  EXPECT_EQ(log.find(cause), log.rfind(cause)) << log;
  EXPECT_THAT(log_of(4, {{6, "sample 6 of 1.tar: the shard is gone", cause}}), IsEmpty());
  EXPECT_EQ(bad_samples_.known().size(), 7u);
  const std::string listed = read_file(folder_ / "bad_samples.tsv");
  for (const int i : {0, 1, 2, 3, 4, 6}) {
    EXPECT_THAT(listed, HasSubstr("sample " + std::to_string(i) + " of 1.tar: the shard is gone\n"));
  }
}

}  // namespace
}  // namespace cosub::train
