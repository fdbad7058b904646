#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

std::string hash_with(const std::vector<std::string>& overrides) {
  return identity_hash(parse(kValid, overrides));
}

TEST(ConfigIdentity, IsSixteenHexDigitsAndStable) {
  const std::string hash = hash_with({});
  EXPECT_EQ(hash.size(), 16u);
  EXPECT_EQ(hash.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(hash, hash_with({}));
}

TEST(ConfigIdentity, IgnoresWhatDoesNotChangeTheNumbers) {
  for (const char* text : {"cluster.ranks=3", "cluster.grace=5s", "cluster.hosts=[a, b]", "runs=elsewhere",
                           "name=other", "defaults.log_every_steps=7", "defaults.collective_timeout=9s",
                           "defaults.checkpoint.every=3s", "defaults.checkpoint.every_steps=5",
                           "defaults.checkpoint.keep=9", "defaults.data.loader_threads=4"}) {
    EXPECT_EQ(hash_with({text}), hash_with({})) << text;
  }
}

TEST(ConfigIdentity, ChangesWithWhatDecidesTheNumbers) {
  for (const char* text :
       {"seed=8", "stages.pretrain.name=pre2", "stages.pretrain.optimizer.lr=1e-4", "defaults.batch.micro=64",
        "defaults.threads=2", "defaults.reduction=fast", "defaults.cosub.enabled=false", "defaults.ema=0.98",
        "stages.pretrain.model.drop_rate=0.1", "defaults.data.train.limit=5", "defaults.data.mix.mixup=0.1",
        "stages.pretrain.model.arch.stem_width=8", "defaults.sync_batchnorm=2",
        "stages.finetune.init.weights=model", "stages.evaluate.data.decode=nvjpeg"}) {
    std::vector<std::string> overrides(1, text);
    if (overrides[0] == "stages.pretrain.name=pre2")
      overrides.emplace_back("stages.finetune.init.stage=pre2");
    EXPECT_NE(hash_with(overrides), hash_with({})) << text;
  }
}

TEST(ConfigIdentity, OfAStageKnowsTheSeedAndOnlyItsStage) {
  const PipelineConfig pipeline = parse(kValid);
  const PipelineConfig other =
      parse(kValid, {"stages.finetune.ema=0.5", "stages.pretrain.checkpoint.every=1s"});
  EXPECT_EQ(identity_hash(pipeline.stages[0], 7), identity_hash(other.stages[0], 7));
  EXPECT_NE(identity_hash(pipeline.stages[1], 7), identity_hash(other.stages[1], 7));
  EXPECT_NE(identity_hash(pipeline.stages[0], 7), identity_hash(pipeline.stages[0], 8));
}

}  // namespace
}  // namespace cosub::config
