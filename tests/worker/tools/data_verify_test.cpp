#include "worker/tools/data_verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_folder.h"

namespace cosub::tools {
namespace {

using ::testing::HasSubstr;

TEST(DataVerify, NamesEveryLabelThatIsNoClass) {
  const testing::TemporaryFolder folder;
  for (const char* name : {"a.pgm", "b.pgm", "c.pgm"}) std::ofstream(folder / name) << "P5 1 1 255\nx";
  std::ofstream(folder / "list.txt") << "a.pgm 2\nb.pgm 1\nc.pgm 7\n";
  DataVerifyOptions options;
  options.source.source = {.folder = folder.path(), .list = folder / "list.txt"};
  options.classes = 2;
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(run_data_verify(options), ExitCode::kBadInput);
  const std::string output = ::testing::internal::GetCapturedStdout();
  for (const char* line :
       {"a.pgm: its label is 2; --classes is 2, so labels are 0 to 1\n",
        "c.pgm: its label is 7; --classes is 2, so labels are 0 to 1\n", "3 samples, 2 bad\n"}) {
    EXPECT_THAT(output, HasSubstr(line));
  }
  options.classes = 8;
  EXPECT_EQ(run_data_verify(options), ExitCode::kDone);
}

}  // namespace
}  // namespace cosub::tools
