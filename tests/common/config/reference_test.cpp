#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

using ::testing::HasSubstr;

std::filesystem::path source_folder() {
  const char* const folder = std::getenv("COSUB_SOURCE_DIR");
  if (folder == nullptr) throw std::runtime_error("COSUB_SOURCE_DIR is not set: run this through ctest");
  return folder;
}

TEST(ConfigReference, TheDocumentIsUpToDate) {
  const std::filesystem::path file = source_folder() / "docs" / "configuration.md";
  if (std::getenv("COSUB_UPDATE_DOCS") != nullptr) std::ofstream(file) << reference_markdown();
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_TRUE(text.str() == reference_markdown())
      << file << " is not what the schema says: run this test with COSUB_UPDATE_DOCS=1 COSUB_SOURCE_DIR=.";
}

TEST(ConfigReference, ShowsKeysOfAllLevelsWithTheirDefaults) {
  const std::string text = reference_markdown();
  EXPECT_THAT(text, HasSubstr("## `stages[].model.arch`"));
  EXPECT_THAT(text, HasSubstr("| `lr` | a number > 0 | `0.001` | peak learning rate |"));
  EXPECT_THAT(
      text,
      HasSubstr("| `every` ° | a duration of at least 1ms such as 250ms, 30s, 15m, 24h or 2d | `15m` |"));
}

TEST(ConfigReference, EveryShippedPipelineLoads) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_folder() / "configs")) {
    if (entry.path().extension() != ".yaml" || entry.path().parent_path().filename() == "recipes") continue;
    ++num_files;
    EXPECT_NO_THROW(load_pipeline(entry.path())) << entry.path();
  }
  EXPECT_GE(num_files, 11);
}

TEST(ConfigReference, TheQuickstartHasFourStagesAndThreeSubmodels) {
  const PipelineConfig pipeline = load_pipeline(source_folder() / "configs" / "quickstart.yaml");
  ASSERT_EQ(pipeline.stages.size(), 4u);
  EXPECT_EQ(pipeline.name, "quickstart");
  EXPECT_EQ(pipeline.stages[2].task, TaskKind::kEvaluate);
  EXPECT_GE(pipeline.stages[2].submodels.size(), 3u);
  EXPECT_EQ(pipeline.stages[2].model, pipeline.stages[3].model);
  EXPECT_EQ(pipeline.stages[2].model, pipeline.stages[1].model);
}

}  // namespace
}  // namespace cosub::config
