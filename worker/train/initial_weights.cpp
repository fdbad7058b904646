#include "worker/train/initial_weights.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/model/weights.h"
#include "worker/train/agreement.h"

namespace cosub::train {
namespace {

/// The newest checkpoint of another stage that is whole. Damaged ones are named but not touched: they are not
/// ours.
std::filesystem::path newest_whole_checkpoint(const std::filesystem::path& stage_folder) {
  std::vector<std::int64_t> steps = checkpoint::Store(stage_folder, 0, 1).steps();
  std::string problems;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    std::filesystem::path folder =
        StageFolder{stage_folder}.checkpoints() / fmt::format("step-{:09d}", *step);
    std::string damage = checkpoint::verify(folder);
    if (damage.empty()) return folder;
    spdlog::warn("{} is damaged ({}): trying the one before", folder.string(), damage);
    problems += "\n  " + damage;
  }
  if (steps.empty())
    throw DataError(
        fmt::format("{}: there is no checkpoint to start from. Run that stage first, or give "
                    "init.weights a safetensors file",
                    stage_folder.string()));
  throw DataError(
      fmt::format("{}: none of the checkpoints to start from is whole:{}\nPut a whole copy back, "
                  "or remove {}: the same command then runs that stage again",
                  StageFolder{stage_folder}.checkpoints().string(), problems, stage_folder.string()));
}

std::string load_from_stage(const Job& job, model::Backbone& model, model::HeadPolicy head) {
  const config::InitConfig& init = job.stage().init;
  std::filesystem::path folder = newest_whole_checkpoint(job.file.init_folder);
  checkpoint::Snapshot snapshot = checkpoint::read(folder);
  std::string which = init.weights;
  if (which == "ema" && !snapshot.files.contains("ema")) which = "model";
  if (!snapshot.files.contains(which))
    throw DataError(fmt::format("{} has no {} weights", folder.string(), which));
  model::load_state(model, std::move(snapshot.files.at(which)), head,
                    (folder / (which + ".safetensors")).string());
  return fmt::format("{} of stage {}, step {}", which, init.stage, snapshot.step);
}

}  // namespace

namespace {

void scale_head(const model::Backbone& model, double scale) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.named_parameters()) {
    if (parameter.key().starts_with(model.classifier() + ".")) at::Tensor(parameter.value()).mul_(scale);
  }
}

}  // namespace

bool has_initial_weights(const Job& job) {
  return !job.file.init_folder.empty() || !job.stage().init.weights_file.empty();
}

std::string load_initial_weights(const Job& job, model::Backbone& model) {
  const config::InitConfig& init = job.stage().init;
  model::HeadPolicy head = init.head == "replace" ? model::HeadPolicy::kReplace : model::HeadPolicy::kKeep;
  if (head == model::HeadPolicy::kReplace) scale_head(model, init.head_scale);
  if (!job.file.init_folder.empty()) return load_from_stage(job, model, head);
  if (init.weights_file.empty()) return fmt::format("random, seed {}", job.file.seed);
  model::load_state(model, checkpoint::load_tensors(init.weights_file), head, init.weights_file.string());
  return init.weights_file.string();
}

namespace {

LoadedModel load_from_file(const Job& job) {
  const config::StageConfig& stage = job.stage();
  if (stage.model.name.empty()) return load_model(stage.init.weights_file);
  LoadedModel loaded;
  loaded.model = model::create(stage.model, job.stream);
  loaded.description = load_initial_weights(job, *loaded.model);
  loaded.data = stage.data;
  loaded.timm_config = complete_timm_config(*loaded.model, stage.data);
  loaded.block_scales.assign(static_cast<std::size_t>(loaded.model->seam().num_blocks()), 1.0);
  loaded.model->eval();
  return loaded;
}

}  // namespace

LoadedModel load_finished_model(const Job& job) {
  const config::StageConfig& stage = job.stage();
  if (!has_initial_weights(job))
    throw ConfigError(
        fmt::format("stage {}: init: give the stage or the weights file to work on", stage.name));
  bool from_stage = !job.file.init_folder.empty();
  std::string chosen;
  on_all_ranks(job.communicator, "choosing the checkpoint", [&] {
    if (job.is_root() && from_stage) chosen = newest_whole_checkpoint(job.file.init_folder).string();
  });
  chosen = text_of_rank_0(job.communicator, chosen, "the checkpoint that rank 0 chose");
  LoadedModel loaded;
  on_all_ranks(job.communicator, "loading the model", [&] {
    std::int64_t image_size_px = stage.model.name.empty() ? 0 : stage.model.image_size;
    loaded = from_stage ? load_model(chosen, stage.init.weights, image_size_px) : load_from_file(job);
  });
  loaded.model->to(job.device);
  return loaded;
}

}  // namespace cosub::train
