// A stage of a small ViT for the tests of the tools that run steps without data.
#pragma once

#include "common/config/pipeline.h"

namespace cosub::testing {

inline config::StageConfig vit_stage(double drop_rate) {
  config::StageConfig stage;
  stage.name = "small";
  stage.model.name = "deit3_small_patch16_224";
  stage.model.classes = 10;
  stage.model.image_size = 32;
  stage.model.drop_rate = drop_rate;
  stage.model.drop_rate_rule = config::DropRateRule::kUniform;
  stage.model.arch["patch_size"] = std::int64_t{8};
  stage.model.arch["embed_dim"] = std::int64_t{48};
  stage.model.arch["num_heads"] = std::int64_t{3};
  stage.batch.micro = 8;
  stage.optimizer.lr = 1e-4;
  stage.ema = 0.99;
  return stage;
}

}  // namespace cosub::testing
