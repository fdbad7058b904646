// Small models for the tests.
#pragma once

#include "worker/model/model.h"

namespace cosub::model {

inline config::ModelConfig small_vit(std::int64_t classes = 5, std::int64_t image_size = 16) {
  config::ModelConfig config;
  config.name = "deit3_small_patch16_224";
  config.classes = classes;
  config.channels = 1;
  config.image_size = image_size;
  config.arch["patch_size"] = 4;
  config.arch["embed_dim"] = 24;
  config.arch["depth"] = 3;
  config.arch["num_heads"] = 3;
  return config;
}

inline config::ModelConfig small_resnet(std::int64_t classes = 5) {
  config::ModelConfig config;
  config.name = "resnet18";
  config.classes = classes;
  config.channels = 1;
  config.image_size = 32;
  config.arch["layers"] = std::vector<std::int64_t>{2, 1, 1, 1};
  config.arch["channels"] = std::vector<std::int64_t>{8, 12, 16, 20};
  config.arch["stem_type"] = "deep";
  config.arch["stem_width"] = 4;
  return config;
}

/// The message of the error that `call` ends with; "" when it ends well.
template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace cosub::model
