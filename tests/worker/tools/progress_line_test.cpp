// What a long command shows while it runs. Standard error is no terminal here.
#include "worker/tools/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cosub::tools {
namespace {

using std::chrono::milliseconds;

std::string shown(milliseconds interval) {
  ::testing::internal::CaptureStderr();
  {
    ProgressLine line("pack", interval);
    line.show({.done = 4210, .of = 9152});
    line.show({.done = 9152, .of = 9152});
  }
  return ::testing::internal::GetCapturedStderr();
}

TEST(ProgressLine, OffATerminalIsALineEachInterval) {
  EXPECT_EQ(shown(milliseconds(0)), "pack   46 %  4,210/9,152 images\npack  100 %  9,152/9,152 images\n");
  EXPECT_EQ(shown(std::chrono::minutes(1)), "");
}

TEST(ProgressLine, TellsSpeedBytesAndWhatIsLeft) {
  const Progress progress{.done = 4210, .of = 9152, .done_now = 4060, .bytes_now = 1 << 30, .seconds = 5};
  EXPECT_EQ(line_of("pack", progress, Bar::kNone),
            "pack   46 %  4,210/9,152 images  812 images/s  1.0 GiB  6.1 s left");
  EXPECT_EQ(
      line_of("index", {.done = 10, .of = 40, .done_now = 10, .seconds = 5, .unit = "shards"}, Bar::kNone),
      "index   25 %  10/40 shards  2.0 shards/s  15.0 s left");
}

}  // namespace
}  // namespace cosub::tools
