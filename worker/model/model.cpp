#include "worker/model/model.h"

#include <fmt/ranges.h>

#include "common/error.h"
#include "common/text.h"
#include "worker/model/resnet.h"
#include "worker/model/vit.h"

namespace cosub::model {
namespace {

void check_input(const config::ModelConfig& config) {
  if (config.classes < 1)
    throw ConfigError(fmt::format("model.classes: found {}; must be positive", config.classes));
  if (config.image_size < 1) {
    throw ConfigError(fmt::format("model.image_size: found {}; must be positive", config.image_size));
  }
  if (config.channels != 1 && config.channels != 3) {
    throw ConfigError(fmt::format("model.channels: found {}; allowed: 1 (grey), 3 (RGB)", config.channels));
  }
}

/// A required or optional key of a timm config, with a message that names it.
template <typename T>
T timm_value(const nlohmann::json& object, const char* key, const std::string& path) {
  const auto found = object.find(key);
  if (found == object.end()) throw ConfigError(fmt::format("config.json: {}{} is missing", path, key));
  try {
    return found->get<T>();
  } catch (const nlohmann::json::exception&) {
    throw ConfigError(fmt::format("config.json: {}{} has the wrong type: {}", path, key, found->dump()));
  }
}

template <typename T>
void read_optional(const nlohmann::json& args, const char* key, std::optional<T>& into) {
  if (args.contains(key)) into = timm_value<T>(args, key, "model_args.");
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& [name, arch] : vit_table()) names.push_back(name);
  for (const auto& [name, arch] : resnet_table()) names.push_back(name);
  return names;
}

std::shared_ptr<Backbone> create(const config::ModelConfig& config, std::uint64_t stream) {
  check_input(config);
  std::shared_ptr<Backbone> backbone;
  if (vit_table().contains(config.name)) {
    backbone = create_vit(config, stream);
  } else if (resnet_table().contains(config.name)) {
    backbone = create_resnet(config, stream);
  } else {
    throw ConfigError(fmt::format("model.name: '{}' is not known.{} Known: {}", config.name,
                                  did_you_mean(config.name, model_names()), fmt::join(model_names(), ", ")));
  }
  set_drop_rates(*backbone);
  return backbone;
}

config::ModelConfig model_config_from_timm(const nlohmann::json& timm_config) {
  config::ModelConfig config;
  config.name = timm_value<std::string>(timm_config, "architecture", "");
  config.classes = timm_value<std::int64_t>(timm_config, "num_classes", "");
  const auto pretrained = timm_value<nlohmann::json>(timm_config, "pretrained_cfg", "");
  const auto input = timm_value<std::vector<std::int64_t>>(pretrained, "input_size", "pretrained_cfg.");
  if (input.size() != 3)
    throw ConfigError("config.json: pretrained_cfg.input_size must be [channels, height, width]");
  config.channels = input[0];
  config.image_size = input[2];

  const nlohmann::json args = timm_config.value("model_args", nlohmann::json::object());
  config.channels = args.value("in_chans", config.channels);
  config.image_size = args.value("img_size", config.image_size);
  read_optional(args, "patch_size", config.arch.patch_size);
  read_optional(args, "embed_dim", config.arch.embed_dim);
  read_optional(args, "depth", config.arch.depth);
  read_optional(args, "num_heads", config.arch.num_heads);
  read_optional(args, "mlp_ratio", config.arch.mlp_ratio);
  read_optional(args, "init_values", config.arch.init_values);
  read_optional(args, "layers", config.arch.layers);
  read_optional(args, "channels", config.arch.channels);
  read_optional(args, "stem_type", config.arch.stem_type);
  read_optional(args, "stem_width", config.arch.stem_width);
  return config;
}

std::map<std::string, at::Tensor> state_of(Backbone& backbone) {
  std::map<std::string, at::Tensor> state;
  for (const auto& item : backbone.named_parameters()) state.emplace(item.key(), item.value());
  for (const auto& item : backbone.named_buffers()) state.emplace(item.key(), item.value());
  return state;
}

}  // namespace cosub::model
