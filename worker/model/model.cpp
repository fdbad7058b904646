#include "worker/model/model.h"

#include <fmt/ranges.h>

#include "common/error.h"
#include "common/text.h"
#include "worker/model/families.h"
#include "worker/model/layers.h"

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

}  // namespace

at::Tensor Backbone::forward(const at::Tensor& images) {
  return classifier_->forward(forward_features(images));
}

std::int64_t Backbone::num_features() const {
  return classifier_->weight.size(1);
}

void Backbone::add_classifier(const std::string& name, std::int64_t num_features) {
  classifier_name_ = name;
  classifier_ = std::make_shared<Linear>(num_features, config_.classes);
  const std::size_t dot = name.find('.');
  torch::nn::Module& owner = dot == std::string::npos ? *this : group(*this, name.substr(0, dot));
  owner.register_module(name.substr(dot + 1), classifier_);
}

nlohmann::json Backbone::timm_config() const {
  TimmClass timm = timm_class();
  timm.model_args["in_chans"] = config_.channels;
  return {{"architecture", config_.name},
          {"num_classes", config_.classes},
          {"num_features", num_features()},
          {"global_pool", timm.global_pool},
          {"model_args", std::move(timm.model_args)},
          {"pretrained_cfg",
           {{"num_classes", config_.classes},
            {"input_size", {config_.channels, config_.image_size, config_.image_size}},
            {"fixed_input_size", timm.fixed_input_size},
            {"interpolation", "bicubic"},
            {"crop_pct", 1.0},
            {"first_conv", timm.first_conv},
            {"classifier", classifier_name_}}}};
}

const std::vector<Family>& families() {
  static const std::vector<Family> all = {vit_family(),  resnet_family(), regnet_family(),  pit_family(),
                                          xcit_family(), swin_family(),   convnext_family()};
  return all;
}

const Family& family_of(const std::string& model_name) {
  for (const Family& family : families()) {
    if (std::find(family.models.begin(), family.models.end(), model_name) != family.models.end())
      return family;
  }
  throw ConfigError(fmt::format("model.name: '{}' is not known.{} `cosub model list` shows all names",
                                model_name, did_you_mean(model_name, model_names())));
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Family& family : families())
    names.insert(names.end(), family.models.begin(), family.models.end());
  return names;
}

std::shared_ptr<Backbone> create(const config::ModelConfig& config, std::optional<std::uint64_t> stream) {
  check_input(config);
  std::shared_ptr<Backbone> backbone = family_of(config.name).create(config);
  if (stream) backbone->init(*stream);
  backbone->seam().set_recompute(config.activation_checkpointing);
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
  config.arch = config::arch_from_json(args.dump());
  return config;
}

std::map<std::string, at::Tensor> state_of(Backbone& backbone) {
  std::map<std::string, at::Tensor> state;
  for (const auto& item : backbone.named_parameters()) state.emplace(item.key(), item.value());
  for (const auto& item : backbone.named_buffers()) state.emplace(item.key(), item.value());
  return state;
}

}  // namespace cosub::model
