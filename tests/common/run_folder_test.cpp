#include "common/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"

namespace cosub {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class RunFolder : public ::testing::Test {
 protected:
  testing::TemporaryFolder folder_;
  StageFolder stage_{folder_.path()};
};

TEST_F(RunFolder, FenceIsZeroWhereThereIsNone) {
  EXPECT_EQ(read_fence(stage_), 0);
}

TEST_F(RunFolder, FenceGoesUpAndNeverDown) {
  write_fence(stage_, 3);
  write_fence(stage_, 3);
  EXPECT_EQ(read_fence(stage_), 3);
  EXPECT_THAT([&] { write_fence(stage_, 2); }, ThrowsMessage<IoError>(HasSubstr("already names attempt 3")));
  EXPECT_EQ(read_fence(stage_), 3);
}

TEST_F(RunFolder, FenceThatHoldsSomethingElseIsNamed) {
  for (const char* text : {"", "three", "3 4", "-1", "99999999999999999999"}) {
    write_file_atomically(stage_.fence(), text);
    EXPECT_THAT([&] { read_fence(stage_); }, ThrowsMessage<DataError>(HasSubstr(stage_.fence().string())))
        << text;
  }
}

TEST_F(RunFolder, CoordinatorAddressComesBack) {
  EXPECT_FALSE(read_coordinator(stage_).has_value());
  write_coordinator(stage_, {"node1:7070", 4});
  const auto read = read_coordinator(stage_);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->address, "node1:7070");
  EXPECT_EQ(read->generation, 4);
}

TEST_F(RunFolder, DamagedCoordinatorAddressIsNamed) {
  for (const char* text : {"", "{}", "[1]", R"({"address": 1, "generation": 2})"}) {
    write_file_atomically(stage_.coordinator(), text);
    EXPECT_THAT([&] { read_coordinator(stage_); }, ThrowsMessage<DataError>(HasSubstr("coordinator.json")))
        << text;
  }
}

}  // namespace
}  // namespace cosub
