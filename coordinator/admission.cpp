#include "coordinator/admission.h"

#include <fmt/format.h>

#include "common/atomic_file.h"
#include "coordinator/results.h"

namespace cosub::coordinator {
namespace {

namespace fs = std::filesystem;

void refuse_bad_name(const std::string& name) {
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
    throw Refusal(
        400, fmt::format("name: '{}' cannot be the name of a folder; use letters, digits, - and _", name));
}

[[noreturn]] void refuse_other_identity(const std::string& name, const fs::path& folder) {
  throw Refusal(
      409, fmt::format(
               "pipeline {} is there already with other settings that decide its numbers ({}). Give this one "
               "another name (--set name=...), or remove the folder {} to start over",
               name, (folder / "pipeline.yaml").string(), folder.string()));
}

/// A folder that another coordinator (or an earlier life of this one) left behind.
void check_found_folder(const PipelineState& pipeline, const launcher::Backend& backend) {
  const fs::path file = pipeline.folder / "pipeline.yaml";
  if (fs::exists(file)) {
    std::string identity;
    try {
      identity =
          config::identity_hash(config::parse_pipeline(read_file(file), file.string(), pipeline.folder));
    } catch (const ConfigError& problem) {
      throw Refusal(
          409, fmt::format("{} cannot be read, so it is not known what lies in that folder: {}. Give this "
                           "pipeline another name (--set name=...), or remove the folder to start over",
                           file.string(), problem.what()));
    }
    if (identity != pipeline.identity) refuse_other_identity(pipeline.name, pipeline.folder);
  }
  for (const StageState& stage : pipeline.stages) {
    const StageFolder folder = pipeline.stage_folder(stage.name);
    const std::int64_t last = highest_attempt(folder);
    if (last == 0 || !fs::exists(folder.attempt(last) / "launch.json") ||
        launcher::read_exit(folder.attempt(last)))
      continue;
    const std::string uuid = launcher::read_launch(folder.attempt(last)).uuid;
    if (backend.probe(folder.attempt(last), uuid) == launcher::Liveness::kRunning)
      throw Refusal(
          409,
          fmt::format("attempt {} of stage {} is running already, under another coordinator: stop it there "
                      "(or end its wrapper process, see {}), then submit again",
                      last, stage.name, (folder.attempt(last) / "claim").string()));
  }
}

PipelineState begin(PipelineState pipeline) {
  pipeline.goal = Goal::kRun;
  pipeline.goal_reason.clear();
  pipeline.stages.clear();
  for (const config::StageConfig& stage : pipeline.config.stages) {
    StageState& state = pipeline.stages.emplace_back();
    state.name = stage.name;
  }
  return pipeline;
}

bool somebody_needs(const PipelineState& pipeline, const std::string& stage) {
  for (const config::StageConfig& other : pipeline.config.stages)
    if (other.init.stage == stage && pipeline.stage(other.name).status != StageStatus::kSucceeded)
      return true;
  return false;
}

bool files_are_there(const PipelineState& pipeline, const StageState& stage) {
  const StageFolder folder = pipeline.stage_folder(stage.name);
  if (!fs::exists(folder.result())) return false;
  if (!stage.export_path.empty() && !fs::exists(stage.export_path)) return false;
  const bool had_checkpoints = stage.checkpoint_step >= 0;
  return !had_checkpoints || newest_checkpoint(folder) >= 0 || !somebody_needs(pipeline, stage.name);
}

}  // namespace

void go_on(PipelineState& pipeline) {
  pipeline.goal = Goal::kRun;
  pipeline.goal_reason.clear();
  // From the last stage to the first: what a later stage lost decides what it needs of an earlier one.
  for (auto stage = pipeline.stages.rbegin(); stage != pipeline.stages.rend(); ++stage) {
    const bool lost = stage->status == StageStatus::kSucceeded && !files_are_there(pipeline, *stage);
    if (lost) {
      stage->results.clear();
      stage->export_path.clear();
      stage->checkpoint_step = -1;
      stage->progress = {};
    }
    if (!lost && stage->status != StageStatus::kStopped && stage->status != StageStatus::kFailed) continue;
    stage->status = StageStatus::kWaiting;
    stage->reason = lost ? "its files are gone: it runs again" : "";
    stage->restarts = 0;
    stage->counted_after = stage->attempts.empty() ? 0 : stage->attempts.back().number;
  }
}

PipelineState admit(const config::PipelineConfig& config, const std::string& yaml, const PipelineState* known,
                    const launcher::Backend& backend) {
  refuse_bad_name(config.name);
  if (const auto why = backend.unavailable()) throw Refusal(400, *why);
  PipelineState next;
  if (known != nullptr) next = *known;
  next.name = config.name;
  next.config = config;
  next.yaml = yaml;
  next.identity = config::identity_hash(config);
  next.folder = fs::absolute(config.runs / config.name).lexically_normal();
  if (known == nullptr) {
    next = begin(std::move(next));
    check_found_folder(next, backend);
    return next;
  }
  if (next.folder != known->folder)
    throw Refusal(
        409,
        fmt::format("pipeline {} runs in {} already; submit it with that `runs` folder, or under another "
                    "name (--set name=...)",
                    known->name, known->folder.string()));
  if (next.identity != known->identity) {
    const std::string state = pipeline_status(*known).state;
    const bool removed =
        !fs::exists(known->folder / "pipeline.yaml") && state != "running" && state != "stopping";
    if (!removed) refuse_other_identity(known->name, known->folder);
    return begin(std::move(next));
  }
  go_on(next);
  return next;
}

}  // namespace cosub::coordinator
