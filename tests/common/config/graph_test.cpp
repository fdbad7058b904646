#include <gmock/gmock.h>

#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

using ::testing::HasSubstr;

TEST(ConfigGraph, NamesOfStagesAreUnique) {
  EXPECT_EQ(refusal(with("- name: export", "- name: finetune")),
            "p.yaml:33:11: stages[3].name: found 'finetune' a second time; allowed: a name that no other "
            "stage has.");
  EXPECT_THAT(refusal(with("- name: export", "- name: results.json")),
              HasSubstr("a file of the run's folder"));
}

TEST(ConfigGraph, StagesThatDoNotExistAreNamedWithTheNearest) {
  EXPECT_EQ(refusal(with("{stage: pretrain}", "{stage: pretrian}")),
            "p.yaml:25:19: stages[1].init.stage: found 'pretrian'; allowed: the name of a stage (pretrain, "
            "finetune, "
            "evaluate, export). Did you mean 'pretrain'?");
  EXPECT_THAT(refusal(with("after: [evaluate]", "after: [evaluat]")),
              HasSubstr("p.yaml:35:13: stages[3].after[0]: found 'evaluat'"));
  EXPECT_THAT(refusal(with("after: [evaluate]", "after: evaluat")), HasSubstr("Did you mean 'evaluate'?"));
}

TEST(ConfigGraph, CyclesAreNamed) {
  EXPECT_EQ(refusal(with("  - name: pretrain\n", "  - name: pretrain\n    after: [export]\n")),
            "p.yaml:26:19: stages[1].init.stage: found a cycle, each stage waiting for the next: pretrain -> "
            "export -> "
            "evaluate -> finetune -> pretrain; allowed: stages that do not wait for themselves.");
  EXPECT_THAT(refusal(with("  - name: pretrain\n", "  - name: pretrain\n    init: {stage: finetune}\n")),
              HasSubstr("pretrain -> finetune -> pretrain"));
  EXPECT_THAT(refusal(with("after: [evaluate]", "after: [export]")), HasSubstr("export -> export"));
}

TEST(ConfigGraph, WeightsComeFromStagesThatTrain) {
  EXPECT_THAT(
      refusal(with("init: {stage: finetune, weights: model}", "init: {stage: evaluate}")),
      HasSubstr(
          "stages[3].init.stage: found 'evaluate', which trains no weights; allowed: a classify stage."));
}

TEST(ConfigGraph, WeightsAreTheEmaWhereThereIsOne) {
  EXPECT_EQ(parse(kValid).stages[1].init.weights, "ema");
  EXPECT_EQ(parse(with("ema: 0.99", "ema: 0")).stages[1].init.weights, "model");
  EXPECT_THAT(refusal(with("{stage: pretrain}", "{stage: pretrain, weights: ema}"), {"defaults.ema=0"}),
              HasSubstr("stages[1].init.weights: found 'ema', but stage 'pretrain' keeps none (ema: 0)"));
}

TEST(ConfigGraph, NumbersOfClassesFit) {
  EXPECT_THAT(
      refusal(with("{image_size: 36}", "{classes: 7}")),
      HasSubstr("stages[1].model.classes: found 7, but stage 'pretrain' has 10; allowed: the same number, or "
                "init.head: replace"));
  EXPECT_NO_THROW(parse(with("    init: {stage: pretrain}\n    model: {image_size: 36}",
                             "    init: {stage: pretrain, head: replace}\n    model: {classes: 7}")));
}

}  // namespace
}  // namespace cosub::config
