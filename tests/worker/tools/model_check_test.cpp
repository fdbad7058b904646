#include "worker/tools/model_check.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "worker/model/families.h"
#include "worker/tools/weightless.h"

namespace cosub::tools {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr std::int64_t kTebibyte = std::int64_t{1} << 40;

class ModelCheck : public ::testing::Test {
 protected:
  /// The problems of a pipeline that pretrains `pretrain`, fine-tunes with `finetune` on top (a stage's
  /// keys; a new head where that has classes), and evaluates `submodels`: lines 6, 7 and 8.
  std::vector<std::string> problems(const std::string& pretrain, const std::string& finetune = "model: {}",
                                    const std::string& submodels = "[]",
                                    const std::vector<std::string>& overrides = {}) {
    const auto file = folder_ / "p.yaml";
    std::ofstream(file) << fmt::format(
        "name: p\n"
        "defaults:\n"
        "  data: {{train: {{folder: train}}, val: {{folder: val}}}}\n"
        "  batch: {{global: 64, micro: 16}}\n"
        "stages:\n"
        "  - {{name: pretrain, model: {{classes: 10, {}}}}}\n"
        "  - {{name: finetune, init: {{stage: pretrain{}}}, {}}}\n"
        "  - {{name: evaluate, task: evaluate, init: {{stage: finetune}}, submodels: {}}}\n",
        pretrain, finetune.find("classes") == std::string::npos ? "" : ", head: replace", finetune,
        submodels);
    std::vector<std::string> lines;
    std::istringstream text(model_problems(file, overrides));
    const std::string place = file.string() + ":";
    for (std::string line; std::getline(text, line);)
      lines.push_back(line.starts_with(place) ? line.substr(place.size()) : line);
    return lines;
  }

  testing::TemporaryFolder folder_;
};

const std::string kVit = "name: vit_tiny_patch16_224, arch: {depth: 4}";

TEST_F(ModelCheck, FindsNothingWhereAllModelsCanBeBuilt) {
  EXPECT_THAT(
      problems(kVit, "model: {image_size: 448}", "[{name: a, keep: 'first:4'}, {name: b, keep: [0, 3]}]"),
      IsEmpty());
}

TEST_F(ModelCheck, NamesAnUnknownModelOnceWithTheNearestOne) {
  EXPECT_THAT(
      problems("name: resnet19"),
      ElementsAre(AllOf(StartsWith("6:"), HasSubstr(": stages[0].model.name: 'resnet19' is not known"),
                        HasSubstr("resnet18"))));
}

TEST_F(ModelCheck, NamesEveryWrongKeyOfArch) {
  EXPECT_THAT(
      problems("name: resnet18, arch: {depth: 3, window_size: 4, layers: [1, 1]}"),
      ElementsAre(
          AllOf(StartsWith("6:"), HasSubstr("stages[0].model.arch.depth: not a key of resnet18")),
          AllOf(StartsWith("6:"), HasSubstr("stages[0].model.arch.window_size: not a key of resnet18")),
          AllOf(StartsWith("6:"), HasSubstr("stages[0].model.arch.layers: "))));
}

TEST_F(ModelCheck, NamesWhatElseIsWrongBesideAnUnknownKey) {
  EXPECT_THAT(problems("name: vit_tiny_patch16_224, arch: {depth: 4, layers: [2]}",
                       "model: {image_size: 440}", "[{name: a, keep: 'first:6'}]"),
              ElementsAre(HasSubstr("stages[0].model.arch.layers: not a key of"),
                          HasSubstr("stages[1].model.image_size: 440")));
  EXPECT_THAT(problems("name: vit_tiny_patch16_224, arch: {depth: 4, layers: [2]}", "model: {}",
                       "[{name: a, keep: 'first:6'}]"),
              ElementsAre(HasSubstr("stages[0].model.arch.layers: not a key of"),
                          HasSubstr("stages[2].submodels[0].keep: 'first:6'")));
}

TEST_F(ModelCheck, NamesAnImageSizeOfALaterStageThatPatchesDoNotDivide) {
  EXPECT_THAT(
      problems(kVit, "model: {image_size: 440}"),
      ElementsAre(AllOf(StartsWith("7:"), HasSubstr("stages[1].model.image_size: 440 is not a multiple"),
                        HasSubstr("nearest: 432 or 448"))));
}

TEST_F(ModelCheck, NamesSubmodelsThatWantBlocksThatThereAreNot) {
  EXPECT_THAT(
      problems(kVit, "model: {}",
               "[{name: a, keep: 'first:6'}, {name: b, keep: [0, 4]}, {name: c, keep: odd}]"),
      ElementsAre(AllOf(StartsWith("8:"), HasSubstr("stages[2].submodels[0].keep: 'first:6'"),
                        HasSubstr("the model has 4")),
                  AllOf(StartsWith("8:"), HasSubstr("stages[2].submodels[1].keep: "), HasSubstr("0 to 3"))));
}

TEST_F(ModelCheck, NamesDropRatesThatWholeRowsCannotMeetAlsoWhenTheyGrowLinearly) {
  // Of 16 rows 8 and 7 are kept: the last block's rate is met, those before are not.
  EXPECT_THAT(problems(kVit + ", drop_rate: 0.5, drop_rate_rule: linear"),
              ElementsAre(AllOf(StartsWith("6:"),
                                HasSubstr("stages[0].model.drop_rate: with microbatches of 16 images"),
                                HasSubstr("blocks 1: wanted 0.1667"))));
  EXPECT_THAT(problems(kVit + ", drop_rate: 0.5"), IsEmpty());
}

TEST_F(ModelCheck, NamesAModelThatTheWeightsOfItsInitStageDoNotFit) {
  EXPECT_THAT(
      problems(kVit, "model: {arch: {depth: 6}}"),
      ElementsAre(AllOf(StartsWith("7:"), HasSubstr("stages[1].init.stage: the model of stage pretrain"),
                        HasSubstr("blocks.4"))));
  EXPECT_THAT(problems(kVit, "model: {classes: 7}"), IsEmpty());
}

/// A default for all stages says nothing of those that do not evaluate.
TEST_F(ModelCheck, LooksAtSubmodelsWhereTheyAreUsed) {
  EXPECT_THAT(problems("name: resnet18", "submodels: [{name: half, keep: 'first:12'}]"), IsEmpty());
}

TEST_F(ModelCheck, NamesClassesThatNoMemoryHolds) {
  EXPECT_THAT(problems("name: resnet18", "model: {classes: 900000000000}"),
              ElementsAre(AllOf(StartsWith("7:"), HasSubstr("stages[1].model.classes: found 900000000000"))));
}

TEST_F(ModelCheck, NamesAModelThatNoMemoryHolds) {
  EXPECT_THAT(problems("name: vit_tiny_patch16_224, arch: {embed_dim: 3000000}"),
              ElementsAre(HasSubstr("stages[0].model: its weights need more than")));
  EXPECT_THAT(problems("name: vit_tiny_patch16_224, arch: {embed_dim: 999999999999}"),
              ElementsAre(HasSubstr("stages[0].model: ")));  // more than 64 bits count
}

TEST_F(ModelCheck, SaysWhichOverrideIsAtFault) {
  EXPECT_THAT(problems(kVit, "model: {}", "[]", {"stages.finetune.model.image_size=100"}),
              ElementsAre(StartsWith("--set stages.finetune.model.image_size: 100 is not a multiple")));
}

TEST_F(ModelCheck, FindsNothingInThePipelinesThatAreShipped) {
  const std::filesystem::path configs = std::filesystem::path(std::getenv("COSUB_SOURCE_DIR")) / "configs";
  EXPECT_EQ(model_problems(configs / "quickstart.yaml", {}), "");
  for (const auto& entry : std::filesystem::directory_iterator(configs / "imagenet"))
    EXPECT_EQ(model_problems(entry.path(), {}), "") << entry.path();
}

TEST_F(ModelCheck, RefusesWhatIsNoPipeline) {
  EXPECT_THROW(model_problems(folder_ / "none.yaml", {}), ConfigError);
}

/// A family that reads numbers while it is built would fail here.
TEST(Weightless, BuildsEveryModelWithoutMemory) {
  const Weightless weightless(kTebibyte);
  for (const std::string& name : model::model_names()) {
    config::ModelConfig config;
    config.name = name;
    config.classes = 10;
    config.image_size = name.ends_with("_384") ? 384 : 224;
    for (const auto& [key, tensor] : model::state_of(*model::create(config, std::nullopt)))
      ASSERT_TRUE(tensor.is_meta()) << name << " " << key;
  }
}

TEST(Weightless, EndsWithItsScope) {
  { const Weightless weightless(kTebibyte); }
  EXPECT_TRUE(at::zeros({2}).is_cpu());
}

}  // namespace
}  // namespace cosub::tools
