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

/// A small member of every family: 5 classes, grey, with at least two blocks in one stage.
inline std::vector<config::ModelConfig> small_models() {
  using List = std::vector<std::int64_t>;
  const auto make = [](const char* name, std::int64_t image_size, config::ArchConfig arch) {
    config::ModelConfig config;
    config.name = name;
    config.classes = 5;
    config.channels = 1;
    config.image_size = image_size;
    config.arch = std::move(arch);
    return config;
  };
  return {
      small_vit(),
      small_resnet(),
      make("regnety_002", 32,
           {{"w0", 16}, {"wa", 8.0}, {"wm", 1.8}, {"group_size", 8}, {"depth", 8}, {"stem_width", 8}}),
      make("pit_s_224", 24,
           {{"patch_size", 6},
            {"stride", 3},
            {"base_dims", List{6, 6, 6}},
            {"depth", List{1, 3, 1}},
            {"heads", List{2, 4, 4}}}),
      make("xcit_tiny_12_p8_224", 32, {{"embed_dim", 24}, {"depth", 3}, {"num_heads", 3}, {"eta", 0.5}}),
      make("swin_tiny_patch4_window7_224", 32,
           {{"embed_dim", 12}, {"window_size", 4}, {"depths", List{2, 4}}, {"num_heads", List{1, 2}}}),
      make("convnext_tiny", 32,
           {{"depths", List{1, 3, 1, 1}}, {"dims", List{8, 12, 16, 24}}, {"ls_init_value", 0.5}}),
  };
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
