#include "worker/tools/model_info.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/model/cost.h"
#include "worker/model/families.h"
#include "worker/model/tensor_file.h"
#include "worker/tools/arch_option.h"
#include "worker/tools/model_arguments.h"
#include "worker/tools/number_check.h"

namespace cosub {
namespace {

// Weights, gradients, AdamW's two moments and the EMA, in float32.
constexpr std::int64_t kStateBytesPerParameter = 5 * 4;

/// NAME_384 was published at 384 pixels, all others at 224.
std::int64_t published_image_size(const std::string& name) {
  return name.ends_with("_384") ? 384 : 224;
}

bool matches(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0 || name.find(pattern) != std::string::npos;
}

void list(const std::string& pattern, bool json) {
  nlohmann::json names = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {{"model", "family", "published in"}};
  for (const model::Family& family : model::families()) {
    for (const std::string& name : family.models) {
      if (!matches(pattern, name)) continue;
      rows.push_back({name, family.name, family.source});
      names.push_back({{"name", name}, {"family", family.name}});
    }
  }
  if (rows.size() == 1) {
    throw ConfigError(
        fmt::format("no model matches '{}'.{}", pattern, did_you_mean(pattern, model::model_names())));
  }
  fmt::print("{}", json ? names.dump(2) + "\n" : table(rows));
}

const char* rule_name(const config::ModelConfig& config) {
  const auto rule = config.drop_rate_rule.value_or(model::family_of(config.name).drop_rate_rule);
  return rule == config::DropRateRule::kLinear ? "linear" : "uniform";
}

std::int64_t num_parameters(const model::Backbone& backbone) {
  std::int64_t count = 0;
  for (const at::Tensor& parameter : backbone.parameters()) count += parameter.numel();
  return count;
}

nlohmann::json branches_json(model::Backbone& backbone) {
  nlohmann::json branches = nlohmann::json::array();
  for (const model::BranchInfo& branch : backbone.seam().branches()) {
    nlohmann::json entry = {{"name", branch.name}, {"drop_rate", branch.drop_rate}};
    if (branch.block != model::kNeverDrops) entry["block"] = branch.block;
    branches.push_back(std::move(entry));
  }
  return branches;
}

void print_json(model::Backbone& backbone, const model::Cost& cost) {
  nlohmann::json tensors = nlohmann::json::object(), layers = nlohmann::json::object();
  for (const auto& [name, tensor] : model::state_of(backbone)) tensors[name] = tensor.sizes().vec();
  for (const auto& [name, id] : model::layer_ids(backbone)) layers[name] = id;
  const nlohmann::json out = {{"name", backbone.config().name},
                              {"family", model::family_of(backbone.config().name).name},
                              {"parameters", num_parameters(backbone)},
                              {"multiply_adds", cost.multiply_adds},
                              {"state_bytes", num_parameters(backbone) * kStateBytesPerParameter},
                              {"activation_bytes_per_row", cost.activation_bytes_per_row},
                              {"drop_rate_rule", rule_name(backbone.config())},
                              {"num_blocks", backbone.seam().num_blocks()},
                              {"branches", branches_json(backbone)},
                              {"tensors", std::move(tensors)},
                              {"layers", std::move(layers)},
                              {"no_weight_decay", backbone.no_weight_decay()}};
  fmt::print("{}\n", out.dump(2));
}

/// The branches of each block, those of one kind and rate in one row.
std::string block_table(model::Backbone& backbone) {
  std::vector<std::vector<std::string>> rows = {{"block", "drop rate", "branches"}};
  for (const model::BranchInfo& branch : backbone.seam().branches()) {
    const std::string block = branch.block == model::kNeverDrops ? "-" : std::to_string(branch.block);
    if (rows.back()[0] == block && block != "-")
      rows.back()[2] += ", " + branch.name;
    else
      rows.push_back({block,
                      branch.block == model::kNeverDrops ? "never" : fmt::format("{:.4g}", branch.drop_rate),
                      branch.name});
  }
  return table(rows);
}

void print_text(model::Backbone& backbone, const model::Cost& cost) {
  const config::ModelConfig& config = backbone.config();
  const model::Family& family = model::family_of(config.name);
  const auto giga = [](std::int64_t count) { return static_cast<double>(count) / 1e9; };
  const auto bytes = [](std::int64_t count) { return format_bytes(static_cast<double>(count)); };
  fmt::print("{} ({}: {})\n\n", config.name, family.name, family.source);
  fmt::print("input         {0}x{1}x{1}, {2} classes\n", config.channels, config.image_size, config.classes);
  fmt::print("parameters    {} ({} in float32)\n", num_parameters(backbone),
             bytes(4 * num_parameters(backbone)));
  fmt::print(
      "forward       {:.3f} G multiply-adds an image ({:.3f} GFLOP); a training step takes about 3 times as "
      "many\n",
      giga(cost.multiply_adds), giga(2 * cost.multiply_adds));
  fmt::print("step memory   {} (weights, gradients, AdamW, EMA) + {} a row of a microbatch{}\n",
             bytes(num_parameters(backbone) * kStateBytesPerParameter), bytes(cost.activation_bytes_per_row),
             config.activation_checkpointing ? ", with activation checkpointing" : "");
  fmt::print("drop rates    {} over {} blocks unless model.drop_rate_rule says otherwise\n\n",
             rule_name(config), backbone.seam().num_blocks());
  fmt::print("{}", block_table(backbone));
}

/// A model that has no weights yet.
struct NewModel {
  config::ModelConfig config;
  std::vector<std::string> arch;

  void declare(CLI::App& app) {
    config.classes = 1000;
    config.image_size = 0;
    app.add_option("NAME", config.name, "model by timm's name; `cosub model list` shows them")->required();
    tools::add_arch(app, arch);
    app.add_option("--classes", config.classes, "number of classes")->check(tools::whole_at_least(1));
    app.add_option("--channels", config.channels, "of the input image: 1 or 3");
    app.add_option("--image-size", config.image_size, "side in pixels; default: the published one")
        ->check(tools::whole_at_least(1));
  }
  std::shared_ptr<model::Backbone> create(std::optional<std::uint64_t> stream) {
    tools::set_arch(config, arch);
    if (config.image_size == 0) config.image_size = published_image_size(config.name);
    return tools::with_arch_option([&] { return model::create(config, stream); });
  }
};

}  // namespace

int run_model_list(int argc, char** argv) {
  std::string pattern = "*";
  bool json = false;
  CLI::App app("The models by name, as timm names them.", "cosub-worker model list");
  app.add_option("PATTERN", pattern,
                 "only names that contain this text or match it, as in 'swin*' or 'patch16'");
  app.add_flag("--json", json, "a JSON list");
  return tools::run_tool(app, argc, argv, [&] { list(pattern, json); });
}

int run_model_info(int argc, char** argv) {
  NewModel model;
  bool json = false, only_counts = false;
  CLI::App app(
      "Size, cost and blocks of a model. Cost is measured on a forward pass on this machine's CPU: a few "
      "seconds for the large ones. It is what really runs: after the last block of a ViT or PiT only the "
      "class token is read, so no other is computed there, and products are fewer than is published.",
      "cosub-worker model info");
  model.declare(app);
  app.add_option("--drop-rate", model.config.drop_rate, "of stochastic depth, for the table of blocks")
      ->check(tools::number_in(config::share_below_one()));
  app.add_flag("--activation-checkpointing", model.config.activation_checkpointing,
               "with branches computed anew in the backward pass");
  app.add_flag("--no-cost", only_counts, "leave out what has to be measured");
  app.add_flag("--json", json, "one JSON object with all tensors, branches and layers");
  return tools::run_tool(app, argc, argv, [&] {
    const auto backbone = model.create(std::nullopt);
    const model::Cost cost = only_counts ? model::Cost{} : model::measure_cost(*backbone);
    json ? print_json(*backbone, cost) : print_text(*backbone, cost);
  });
}

int run_model_init(int argc, char** argv) {
  NewModel model;
  std::uint64_t stream = 0;
  std::filesystem::path output, timm_config;
  CLI::App app("Initial weights of a model under timm's names, as a training stage draws them.",
               "cosub-worker model init");
  model.declare(app);
  app.add_option("--stream", stream, "key of the draws: the stage's stream");
  app.add_option("--output", output, "safetensors file to write; must not exist")->required();
  app.add_option("--timm-config", timm_config, "also write the model's config.json in timm's format here");
  return tools::run_tool(app, argc, argv, [&] {
    const auto backbone = model.create(stream);
    model::write_tensors(output, model::state_of(*backbone));
    if (!timm_config.empty()) write_file_atomically(timm_config, backbone->timm_config().dump(2) + "\n");
  });
}

}  // namespace cosub
