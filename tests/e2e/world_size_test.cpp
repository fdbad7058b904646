// The rule that a run does not depend on how many ranks it got: the exported files have the same bytes.
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"

namespace cosub::testing {
namespace {

std::string sha_of_run(const TemporaryFolder& folder, ToyPipeline options, const std::string& name,
                       std::int64_t ranks) {
  options.name = name;
  options.ranks = ranks;
  const auto result =
      run_program({program("cosub").string(), "run", write_toy_pipeline(folder.path(), options).string()});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  return exported_sha256(folder.path() / "runs" / name);
}

void expect_same_bytes(const ToyPipeline& options) {
  const TemporaryFolder folder;
  const std::string one = sha_of_run(folder, options, "one", 1);
  ASSERT_FALSE(one.empty());
  EXPECT_EQ(sha_of_run(folder, options, "two", 2), one);
  EXPECT_EQ(sha_of_run(folder, options, "two_again", 2), one);
  EXPECT_EQ(sha_of_run(folder, options, "three", 3), one);
  EXPECT_EQ(sha_of_run(folder, options, "four", 4), one);
}

TEST(WorldSize, ResnetHasTheSameBytesOnOneToFourRanks) {
  expect_same_bytes({});
}

TEST(WorldSize, VisionTransformerHasTheSameBytesOnOneToFourRanks) {
  ToyPipeline options;
  options.model = "deit3_small_patch16_224";
  options.arch = "{patch_size: 7, embed_dim: 24, depth: 3, num_heads: 2, init_values: 0.1}";
  options.finetune_image_size = 21;
  expect_same_bytes(options);
}

}  // namespace
}  // namespace cosub::testing
