#include "worker/tools/model_arguments.h"

#include <fmt/format.h>

#include <cmath>
#include <iostream>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/model/tensor_file.h"
#include "worker/model/weights.h"
#include "worker/tools/arch_option.h"

namespace cosub::tools {
namespace {

config::ModelConfig named_config(const std::string& name, const std::vector<std::string>& arch) {
  config::ModelConfig config;
  config.name = name;
  set_arch(config, arch);
  return config;
}

config::ModelConfig config_from_text(const std::string& text, const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) throw ConfigError(fmt::format("{}: is not JSON", where));
  return model::model_config_from_timm(json);
}

std::int64_t classes_of(const std::map<std::string, at::Tensor>& weights, const std::filesystem::path& path) {
  for (const char* name : {"head.weight", "fc.weight", "head.fc.weight"}) {
    const auto found = weights.find(name);
    if (found != weights.end() && found->second.dim() == 2) return found->second.size(0);
  }
  throw DataError(
      fmt::format("{}: has no classifier (head.weight, fc.weight or head.fc.weight)", path.string()));
}

/// Swin's window is part of the weights: that of the first stage's table (2w-1)^2, where it is a square.
void infer_window(config::ModelConfig& config, const std::map<std::string, at::Tensor>& weights) {
  const auto table = weights.find("layers.0.blocks.0.attn.relative_position_bias_table");
  if (table == weights.end() || table->second.dim() != 2 || config.arch.contains("window_size")) return;
  const std::int64_t window = (std::llround(std::sqrt(static_cast<double>(table->second.size(0)))) + 1) / 2;
  if ((2 * window - 1) * (2 * window - 1) == table->second.size(0)) config.arch["window_size"] = window;
}

}  // namespace

void ModelArguments::declare(CLI::App& app) {
  auto* by_name =
      app.add_option("NAME", name, "Model by timm's name, e.g. resnet18 or deit3_small_patch16_224");
  add_arch(app, arch)->needs(by_name);
  app.add_option("--config", config, "config.json in timm's format, instead of NAME")->excludes(by_name);
  app.add_option("--weights", weights, "safetensors file with all parameters and buffers")->required();
  app.add_flag("--float64", float64, "Compute in double precision");
}

std::shared_ptr<model::Backbone> ModelArguments::build(const at::Tensor& input) const {
  const auto wanted_config = [this] {
    if (!name.empty()) return named_config(name, arch);
    if (!config.empty()) return config_from_text(read_file(config), config.string());
    if (!recorded.empty()) return config_from_text(recorded, "the input's metadata model");
    throw ConfigError("Name a model, or pass --config config.json");
  };
  config::ModelConfig wanted = wanted_config();
  if (input.size(2) != input.size(3)) throw DataError("input: images must be square [B, C, S, S]");
  std::map<std::string, at::Tensor> state = model::read_tensors(weights);
  wanted.classes = classes_of(state, weights);
  wanted.channels = input.size(1);
  wanted.image_size = input.size(2);
  infer_window(wanted, state);
  const auto create = [&] { return model::create(wanted, std::nullopt); };
  const auto backbone = name.empty() ? create() : with_arch_option(create);
  if (float64) {
    for (const auto& [key, tensor] : model::state_of(*backbone)) {
      at::Tensor live = tensor;
      if (live.is_floating_point()) live.set_data(live.to(at::kDouble));
    }
  }
  model::load_state(*backbone, std::move(state), model::HeadPolicy::kKeep, weights.string());
  return backbone;
}

at::Tensor float_tensor(const std::map<std::string, at::Tensor>& tensors, const std::string& name,
                        std::int64_t dims, const std::filesystem::path& path) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError(fmt::format("{}: tensor '{}' is missing", path.string(), name));
  if (!found->second.is_floating_point() || found->second.dim() != dims) {
    throw DataError(
        fmt::format("{}: tensor '{}' must be floating point with {} dimensions", path.string(), name, dims));
  }
  return found->second;
}

int run_tool(CLI::App& app, int argc, char** argv, const std::function<void()>& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  try {
    body();
    return static_cast<int>(ExitCode::kDone);
  } catch (const Error& error) {
    std::cerr << app.get_name() << ": " << error.what() << '\n';
    return static_cast<int>(error.exit_code());
  }
}

}  // namespace cosub::tools
