#include "worker/model/trim.h"

#include <fmt/format.h>

#include "common/error.h"

namespace cosub::model {
namespace {

using State = Backbone::State;

/// Kept blocks of one stage by their number in the stage, checked.
std::vector<std::int64_t> kept_of_stage(const BlockStage& stage, std::int64_t first,
                                        const std::vector<bool>& keep, const State& state) {
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < stage.depth; ++i) {
    const std::string name = stage.prefix + std::to_string(i);
    if (!keep[static_cast<std::size_t>(first + i)]) {
      const auto shortcut = state.lower_bound(name + ".downsample.");
      if (shortcut != state.end() && shortcut->first.starts_with(name + ".downsample.")) {
        throw ConfigError(
            fmt::format("trim: block {} ({}) has a projecting shortcut, which every row needs: keep it",
                        first + i, name));
      }
      continue;
    }
    const auto place = static_cast<std::int64_t>(kept.size());
    if ((i - place) % stage.period != 0) {
      throw ConfigError(fmt::format(
          "trim: block {} ({}) would become number {} of its stage, but every second block there has "
          "shifted windows: drop blocks in neighbouring pairs",
          first + i, name, place));
    }
    kept.push_back(i);
  }
  if (kept.empty()) {
    throw ConfigError(fmt::format("trim: no block of {}* (blocks {} to {}) is kept; each stage needs one",
                                  stage.prefix, first, first + stage.depth - 1));
  }
  return kept;
}

void fold_scales(const ResidualSeam& seam, const std::vector<double>& block_scale, State& state) {
  for (const BranchInfo& branch : seam.branches()) {
    if (branch.block == kNeverDrops) continue;
    for (const std::string& name : branch.last_affine) {
      at::Tensor& affine = state.at(name);
      affine = affine * block_scale[static_cast<std::size_t>(branch.block)];
    }
  }
}

}  // namespace

std::shared_ptr<Backbone> trim(Backbone& backbone, const std::vector<bool>& keep,
                               const std::vector<double>& block_scale) {
  const BlockLayout layout = backbone.block_layout();
  if (!layout.fixed_because.empty()) throw ConfigError("trim: " + layout.fixed_because);
  const at::NoGradGuard no_grad;
  State state = state_of(backbone);
  if (!block_scale.empty()) fold_scales(backbone.seam(), block_scale, state);

  std::vector<std::int64_t> depths;
  std::map<std::string, std::string> source_prefixes;  // of each kept block, by its new prefix
  std::int64_t first = 0;
  for (const BlockStage& stage : layout.stages) {
    const std::vector<std::int64_t> kept = kept_of_stage(stage, first, keep, state);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      source_prefixes[fmt::format("{}{}.", stage.prefix, i)] = fmt::format("{}{}.", stage.prefix, kept[i]);
    }
    depths.push_back(static_cast<std::int64_t>(kept.size()));
    first += stage.depth;
  }
  config::ModelConfig config = backbone.config();
  config.arch = config::arch_from_json(backbone.timm_class().model_args.dump());
  if (layout.stages.size() == 1)
    config.arch[layout.depth_key] = depths.front();
  else
    config.arch[layout.depth_key] = depths;

  std::shared_ptr<Backbone> trimmed = create(config, std::nullopt);
  for (auto& [name, tensor] : state_of(*trimmed)) {
    std::string source = name;
    for (const auto& [prefix, from] : source_prefixes) {
      if (name.starts_with(prefix)) source = from + name.substr(prefix.size());
    }
    at::Tensor live = tensor;
    live.copy_(state.at(source));
  }
  trimmed->train(backbone.is_training());
  return trimmed;
}

}  // namespace cosub::model
