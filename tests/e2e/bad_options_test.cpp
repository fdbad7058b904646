// Options of the tools that cannot be: one line, and no work.
#include <algorithm>

#include "tests/e2e/bad_input.h"

namespace cosub::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ProgramResult cosub(std::vector<std::string> words) {
  words.insert(words.begin(), program("cosub").string());
  return run_program(words);
}

TEST(BadOptions, OfTheBenchmarksAreRefusedInOneLine) {
  const ProgramResult memory =
      cosub({"bench", "optimizer", "--device", "cpu", "--parameters", "86000000000000"});
  expect_refusal(memory, ExitCode::kBadInput, {"--parameters 86000000000000", "1.5 PiB", "available"});
  EXPECT_EQ(std::count(memory.output.begin(), memory.output.end(), '\n'), 1) << memory.output;
  for (const char* option : {"--json", "--trace"}) {
    const std::string named = option + std::string(" /nope/x: ");
    expect_refusal(cosub({"bench", "step", option, "/nope/x"}), ExitCode::kBadInput, {named});
  }
  for (const char* command : {"optimizer", "allreduce"})
    expect_refusal(cosub({"bench", command, "--json", "/nope/x"}), ExitCode::kBadInput, {"--json /nope/x: "});
  expect_refusal(cosub({"bench", "step", "--device", "cpu", "--sync-batchnorm", "2"}), ExitCode::kBadInput,
                 {"--sync-batchnorm 2: found 1 rank", "mpirun -n 2 cosub-worker bench step"});
  expect_refusal(cosub({"bench", "step", "--arch", "depth=x"}), ExitCode::kBadInput,
                 {"--arch depth: found 'x'"});
}

TEST(BadOptions, OfModelsAndImagesAreRefused) {
  expect_refusal(cosub({"model", "info", "resnet18", "--image-size", "0"}), ExitCode::kUsage,
                 {"--image-size: found 0; allowed: a whole number >= 1"});
  expect_refusal(cosub({"model", "info", "resnet18", "--arch", "depth=6"}), ExitCode::kBadInput,
                 {"--arch depth: not a key of resnet18"});
  expect_refusal(cosub({"eval", "--weights", "w", "--crop-ratio", "0"}), ExitCode::kUsage,
                 {"--crop-ratio: found 0; allowed: a number > 0 and <= 1"});
}

TEST(BadOptions, ThatLibTorchFailsWithComeWithoutItsStack) {
  const ProgramResult result = cosub({"bench", "step", "--device", "cpu", "--model", "resnet18",
                                      "--image-size", "32", "--images", "100000000000"});
  EXPECT_EQ(result.exit_code, static_cast<int>(ExitCode::kFailure)) << result.output;
  EXPECT_THAT(result.output, HasSubstr("error: "));
  EXPECT_THAT(result.output, Not(HasSubstr("frame #")));
}

}  // namespace
}  // namespace cosub::testing
