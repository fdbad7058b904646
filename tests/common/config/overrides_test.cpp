#include <gmock/gmock.h>

#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ConfigOverrides, ChangeKeysOfThePipelineAndOfStagesByName) {
  const PipelineConfig pipeline =
      parse(kValid, {"name=other", "cluster.ranks=4", "stages.pretrain.optimizer.lr=2e-3", "stages.1.ema=0.5",
                     "stages.finetune.checkpoint.every=30s", "stages.pretrain.data.mean=[0.1]"});
  EXPECT_EQ(pipeline.name, "other");
  EXPECT_EQ(pipeline.cluster.ranks, 4);
  EXPECT_EQ(pipeline.stages[0].optimizer.lr, 2e-3);
  EXPECT_EQ(pipeline.stages[1].ema, 0.5);
  EXPECT_EQ(pipeline.stages[1].checkpoint.every, std::chrono::seconds(30));
  EXPECT_THAT(pipeline.stages[0].data.mean, ElementsAre(0.1));
}

TEST(ConfigOverrides, ReachDefaultsAndWhatIsInherited) {
  EXPECT_EQ(parse(kValid, {"defaults.ema=0.9"}).stages[1].ema, 0.9);
  EXPECT_EQ(parse(kValid, {"stages.pretrain.model.drop_rate=0.2"}).stages[3].model.drop_rate, 0.2);
}

TEST(ConfigOverrides, TheLastOneCounts) {
  EXPECT_EQ(parse(kValid, {"seed=1", "seed=2"}).seed, 2u);
}

TEST(ConfigOverrides, MappingsChangeTheirKeysOnly) {
  const StageConfig stage = parse(kValid, {"stages.pretrain.model={drop_rate: 0.3}"}).stages[0];
  EXPECT_EQ(stage.model.drop_rate, 0.3);
  EXPECT_EQ(stage.model.name, "resnet18");
}

TEST(ConfigOverrides, StagesMayHaveDotsInTheirNames) {
  std::string yaml = with("- name: export", "- name: finetune.v1.2");
  EXPECT_EQ(parse(yaml, {"stages.finetune.v1.2.threads=3"}).stages[3].threads, 3);
  EXPECT_EQ(parse(yaml, {"stages.finetune.threads=3"}).stages[1].threads, 3);
  yaml.replace(yaml.find("- name: evaluate"), 16, "- name: finetune.v1");
  yaml.replace(yaml.find("after: [evaluate]"), 17, "");
  EXPECT_EQ(parse(yaml, {"stages.finetune.v1.threads=3"}).stages[2].threads, 3);
  EXPECT_EQ(parse(yaml, {"stages.finetune.v1.2.threads=3"}).stages[3].threads, 3);
  EXPECT_EQ(parse(yaml, {"stages.3.name=pretrain.x", "stages.pretrain.x.threads=3"}).stages[3].threads, 3);
  const std::string longer_first = with("- name: pretrain", "- name: finetune.x");
  EXPECT_THAT(refusal(longer_first, {"stages.finetune.x.threads=zero"}),
              HasSubstr("--set stages.finetune.x.threads: found 'zero'"));
}

TEST(ConfigOverrides, ErrorsSayWhichSetTheyAre) {
  EXPECT_EQ(refusal(kValid, {"stages.pretrain.optimizer.lr=fast"}),
            "--set stages.pretrain.optimizer.lr: found 'fast'; allowed: a number > 0.");
  EXPECT_THAT(refusal(kValid, {"stages.pretrain.optimizer.rl=1"}),
              ::testing::AllOf(HasSubstr("--set stages.pretrain.optimizer.rl: unknown key 'rl'"),
                               HasSubstr("Did you mean 'lr'?")));
  EXPECT_THAT(refusal(kValid, {"stages.pretrain.optimiser.lr=1"}),
              ::testing::AllOf(HasSubstr("--set stages.pretrain.optimiser.lr: "),
                               HasSubstr("Did you mean 'optimizer'?")));
  EXPECT_THAT(refusal(kValid, {"stages.pretrain.device=gpu"}), HasSubstr("Did you mean 'cuda'?"));
  EXPECT_EQ(refusal(kValid, {"stages.pretrian.ema=0"}),
            "--set stages.pretrian.ema: found no stage 'pretrian'; allowed: pretrain, finetune, evaluate, "
            "export. Did you "
            "mean 'pretrain'?");
  EXPECT_THAT(refusal(kValid, {"cluster.ranks=9"}),
              HasSubstr("--set cluster.ranks: found 9, but a step of stage 'pretrain'"));
  EXPECT_THAT(refusal(kValid, {"name=[a"}), HasSubstr("--set name: not valid YAML: "));
  EXPECT_EQ(refusal(kValid, {"stages.none.ema=\xff"}),
            "--set stages.none.ema: not UTF-8 text, or a control character.");
  EXPECT_THAT(refusal(kValid, {"name="}), HasSubstr("--set name: found nothing; allowed: letters"));
  EXPECT_THAT(refusal(kValid, {"stages.evaluate.submodels.0.keep=odd"}),
              HasSubstr("'stages.evaluate.submodels' is a list; allowed: to set it as a whole"));
}

TEST(ConfigOverrides, WithoutAKeyOrAValueAreRefused) {
  for (const char* text : {"", "=", "=1", "name", "a..b=1", ".a=1", "a.=1"}) {
    EXPECT_THAT(refusal(kValid, {text}), HasSubstr("allowed: KEY=VALUE, as in cluster.ranks=4.")) << text;
  }
}

}  // namespace
}  // namespace cosub::config
