#include <gmock/gmock.h>

#include <fstream>

#include "tests/common/config/pipelines.h"
#include "tests/support/temporary_folder.h"

namespace cosub::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void write(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

TEST(ConfigInheritance, DefaultsReachEveryStageBelowItsOwnKeys) {
  const PipelineConfig pipeline = parse(with("{image_size: 36}", "{image_size: 36}\n    batch: {micro: 64}"));
  EXPECT_EQ(pipeline.stages[0].batch.micro, 32);
  EXPECT_EQ(pipeline.stages[1].batch.micro, 64);
  EXPECT_EQ(pipeline.stages[1].batch.global, 128);
  EXPECT_EQ(pipeline.stages[1].ema, 0.99);
}

TEST(ConfigInheritance, ModelsComeFromTheInitStageThroughChains) {
  const PipelineConfig pipeline = parse(kValid);
  EXPECT_EQ(pipeline.stages[1].model.name, "resnet18");
  for (const std::size_t stage : {1, 2, 3}) {
    EXPECT_EQ(pipeline.stages[stage].model.image_size, 36) << stage;
    EXPECT_EQ(pipeline.stages[stage].model.classes, 10) << stage;
  }
  EXPECT_EQ(pipeline.stages[1].optimizer.lr, OptimizerConfig().lr) << "only the model is inherited";
}

TEST(ConfigInheritance, TheInitStageGoesBeforeDefaults) {
  const PipelineConfig pipeline =
      parse(with("ema: 0.99", "ema: 0.99\n  model: {image_size: 20, drop_rate: 0.2}"));
  EXPECT_EQ(pipeline.stages[2].model.image_size, 36);
  EXPECT_EQ(pipeline.stages[2].model.drop_rate, 0.2);
}

TEST(ConfigInheritance, EvaluateTakesValidationDataFromTheInitStage) {
  std::string yaml = with("    model: {image_size: 36}",
                          "    model: {image_size: 36}\n    data: {mean: [0.5], std: [0.25], val: {limit: "
                          "10}, train: {limit: 5}}");
  const PipelineConfig pipeline = parse(yaml);
  EXPECT_THAT(pipeline.stages[2].data.mean, ElementsAre(0.5));
  EXPECT_THAT(pipeline.stages[3].data.std, ElementsAre(0.25));
  EXPECT_EQ(pipeline.stages[2].data.val.limit, 10);
  EXPECT_EQ(pipeline.stages[2].data.val.idx->images, "/data/val-images.gz");
  EXPECT_EQ(pipeline.stages[2].data.train.limit, 0);
}

TEST(ConfigInheritance, NullTakesAnInheritedKeyAway) {
  const PipelineConfig pipeline = parse(
      with("image_size: 28", "arch: {stem_type: deep, stem_width: 16}") +
      "  - name: more\n    init: {stage: pretrain}\n    model: {arch: {stem_type: ~}}\n    schedule:\n");
  EXPECT_EQ(pipeline.stages[4].model.arch, (ArchConfig{{"stem_width", std::int64_t{16}}}));
}

TEST(ConfigInheritance, DefaultsHoldNoKeysThatAStageMustSayItself) {
  EXPECT_THAT(refusal(with("  ema: 0.99", "  ema: 0.99\n  name: x")),
              HasSubstr("p.yaml:12:9: defaults.name: belongs to each stage"));
  EXPECT_THAT(refusal(with("defaults:", "defaults: 5\nother:")),
              HasSubstr("defaults: found '5'; allowed: a mapping"));
}

TEST(ConfigInheritance, RecipesLieBesideOrAboveTheFileAndBelowDefaults) {
  const cosub::testing::TemporaryFolder folder;
  write(folder / "configs/recipes/strong.yaml", "ema: 0.5\noptimizer: {eps: 1e-5}\n");
  write(folder / "configs/mine/deep/p.yaml", "recipe: strong\n" + kValid);
  const PipelineConfig pipeline = load_pipeline(folder / "configs/mine/deep/p.yaml");
  EXPECT_EQ(pipeline.stages[0].optimizer.eps, 1e-5);
  EXPECT_EQ(pipeline.stages[0].ema, 0.99) << "defaults go before the recipe";
}

TEST(ConfigInheritance, MistakesInRecipesAreNamedInTheirFile) {
  const cosub::testing::TemporaryFolder folder;
  const std::string recipe = (folder / "configs/recipes/strong.yaml").string();
  write(recipe, "optimizer:\n  epz: 1e-5\n");
  write(folder / "p.yaml", "recipe: strong\n" + kValid);
  try {
    load_pipeline(folder / "p.yaml");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr(recipe + ":2:3: optimizer.epz: unknown key 'epz'"));
    EXPECT_THAT(error.what(), HasSubstr("Did you mean 'eps'?"));
  }
}

TEST(ConfigInheritance, UnknownRecipesListTheKnownOnes) {
  const cosub::testing::TemporaryFolder folder;
  write(folder / "configs/recipes/strong.yaml", "");
  write(folder / "configs/recipes/plain.yaml", "");
  const auto message = [&](const std::string& recipe) -> std::string {
    try {
      parse_pipeline("recipe: " + recipe + "\n" + kValid, "p.yaml", folder.path());
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("storng"),
            "p.yaml:1:9: recipe: found 'storng'; allowed: plain, strong. Did you mean 'strong'?");
  EXPECT_EQ(message("../recipes/strong"),
            "p.yaml:1:9: recipe: found '../recipes/strong'; allowed: plain, strong.");
  EXPECT_EQ(message("strong"), "");
}

TEST(ConfigInheritance, DataPathsStartAtTheFilesFolderAndRunsDoesNot) {
  const PipelineConfig pipeline = parse(with("seed: 7", "seed: 7\nruns: out/runs"));
  EXPECT_EQ(pipeline.stages[0].data.train.idx->images, "/data/train-images.gz");
  EXPECT_EQ(pipeline.runs, "out/runs");
  EXPECT_EQ(parse(with("init: {stage: finetune}",
                       "init: {weights: ../w.safetensors}\n    model: {name: a, classes: 10, channels: 1}"))
                .stages[2]
                .init.weights_file,
            "/w.safetensors");
  EXPECT_EQ(parse(with("images: train-images.gz", "images: /abs/t.gz")).stages[0].data.train.idx->images,
            "/abs/t.gz");
}

}  // namespace
}  // namespace cosub::config
