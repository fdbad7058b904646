#include "coordinator/admission.h"

#include <fmt/format.h>

#include <optional>
#include <set>

#include "common/atomic_file.h"
#include "common/config/difference.h"
#include "coordinator/results.h"

namespace cosub::coordinator {
namespace {

namespace fs = std::filesystem;

void refuse_bad_name(const std::string& name) {
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
    throw Refusal(
        400, fmt::format("name: '{}' cannot be the name of a folder; use letters, digits, - and _", name));
}

/// A pipeline before the change that is asked for, as far as the coordinator or the run's folder knows it.
struct Before {
  config::PipelineConfig config;
  const PipelineState* state = nullptr;  // nullptr: only the folder knows of it
};

std::optional<std::int64_t> running_attempt(const Before& before, const StageFolder& folder,
                                            const std::string& stage, const launcher::Backend& backend) {
  if (before.state != nullptr) {
    for (const StageState& state : before.state->stages)
      if (state.name == stage && state.live_attempt() != nullptr) return state.live_attempt()->number;
    return std::nullopt;
  }
  const std::int64_t last = highest_attempt(folder);
  if (last == 0 || !fs::exists(folder.attempt(last) / "launch.json") ||
      launcher::read_exit(folder.attempt(last)))
    return std::nullopt;
  const std::string uuid = launcher::read_launch(folder.attempt(last)).uuid;
  const bool runs = backend.probe(folder.attempt(last), uuid) == launcher::Liveness::kRunning;
  return runs ? std::optional(last) : std::nullopt;
}

/// "a checkpoint": what the stage has that came of its settings; "" when they can still be changed.
std::string bound_by(const Before& before, const StageFolder& folder, const std::string& stage,
                     const launcher::Backend& backend) {
  if (fs::exists(folder.result())) return "a result";
  if (has_checkpoints(folder)) return "a checkpoint";
  if (const auto attempt = running_attempt(before, folder, stage, backend))
    return fmt::format("a running attempt ({})", *attempt);
  return "";
}

/// The newest checkpoint of the last stage that is complete and has one; empty where there is none.
fs::path newest_finished_weights(const PipelineState& pipeline, const config::PipelineConfig& before) {
  for (auto stage = before.stages.rbegin(); stage != before.stages.rend(); ++stage) {
    const StageFolder folder = pipeline.stage_folder(stage->name);
    const std::int64_t step = newest_checkpoint(folder);
    if (step < 0 || !fs::exists(folder.result())) continue;
    const fs::path checkpoint = folder.checkpoints() / fmt::format("step-{:09d}", step),
                   ema = checkpoint / "ema.safetensors";
    return fs::exists(ema) ? ema : checkpoint / "model.safetensors";
  }
  return {};
}

std::string difference_lines(const std::vector<config::Difference>& differences) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < differences.size() && i < kShown; ++i)
    text +=
        fmt::format("\n  {}: {}, now {}", differences[i].key, differences[i].before, differences[i].after);
  if (differences.size() > kShown) text += fmt::format("\n  and {} more", differences.size() - kShown);
  return text;
}

[[noreturn]] void refuse_other_settings(const PipelineState& next, const Before& before,
                                        const std::vector<config::Difference>& differences,
                                        const std::string& stage, const std::string& bond) {
  const fs::path weights = newest_finished_weights(next, before.config);
  throw Refusal(
      409,
      fmt::format("pipeline {} is there already with other settings that decide its numbers ({}):{}\nStage "
                  "{} has {}, "
                  "so that they cannot be changed. Give this one another name (--set name=...), or remove "
                  "the folder {} "
                  "to start over{}",
                  next.name, (next.folder / "pipeline.yaml").string(), difference_lines(differences), stage,
                  bond, next.folder.string(),
                  weights.empty()
                      ? ""
                      : fmt::format(", or begin under another name with the weights that are there: init: "
                                    "{{weights: {}}} in its first stage",
                                    weights.string())));
}

/// With a stage that changes, those that begin with its weights do, and so on.
void add_heirs(const config::PipelineConfig& pipeline, std::set<std::string>& changed) {
  for (std::size_t before = 0; before != changed.size();) {
    before = changed.size();
    for (const config::StageConfig& stage : pipeline.stages)
      if (changed.contains(stage.init.stage)) changed.insert(stage.name);
  }
}

/// The stages that a change concerns, which are those that can still be changed: Refusal when one cannot.
std::set<std::string> changed_stages(const PipelineState& next, const Before& before,
                                     const launcher::Backend& backend) {
  const std::vector<config::Difference> differences =
      config::deciding_differences(before.config, next.config);
  std::set<std::string> changed;
  for (const config::Difference& difference : differences) {
    if (!difference.stage.empty()) {
      changed.insert(difference.stage);
      continue;
    }
    for (const config::PipelineConfig* pipeline : {&before.config, &next.config})
      for (const config::StageConfig& stage : pipeline->stages) changed.insert(stage.name);
  }
  add_heirs(before.config, changed);
  add_heirs(next.config, changed);
  for (const config::StageConfig& stage : before.config.stages) {
    if (!changed.contains(stage.name)) continue;
    const std::string bond = bound_by(before, next.stage_folder(stage.name), stage.name, backend);
    if (!bond.empty()) refuse_other_settings(next, before, differences, stage.name, bond);
  }
  return changed;
}

/// What the run's folder says it holds; nullopt where it says nothing.
std::optional<config::PipelineConfig> found_config(const PipelineState& pipeline) {
  const fs::path file = pipeline.folder / "pipeline.yaml";
  if (!fs::exists(file)) return std::nullopt;
  try {
    return config::parse_pipeline(read_file(file), file.string(), pipeline.folder);
  } catch (const ConfigError& problem) {
    throw Refusal(409,
                  fmt::format("{} cannot be read, so it is not known what lies in that folder: {}. Give this "
                              "pipeline another name (--set name=...), or remove the folder to start over",
                              file.string(), problem.what()));
  }
}

/// A folder that another coordinator (or an earlier life of this one) left behind.
void check_found_folder(const PipelineState& pipeline, const launcher::Backend& backend) {
  Before before{pipeline.config};
  if (const auto found = found_config(pipeline)) {
    before.config = *found;
    changed_stages(pipeline, before, backend);
  }
  for (const config::StageConfig& stage : before.config.stages) {
    const StageFolder folder = pipeline.stage_folder(stage.name);
    if (const auto attempt = running_attempt(before, folder, stage.name, backend))
      throw Refusal(
          409,
          fmt::format("attempt {} of stage {} is running already, under another coordinator: stop it there "
                      "(or end its wrapper process, see {}), then submit again",
                      *attempt, stage.name, (folder.attempt(*attempt) / "claim").string()));
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

/// What is known of the stages that a change does not concern; the others begin anew.
void keep_unchanged(PipelineState& next, const PipelineState& known, const std::set<std::string>& changed) {
  next.stages.clear();
  for (const config::StageConfig& stage : next.config.stages) {
    const auto before = std::ranges::find(known.stages, stage.name, &StageState::name);
    StageState& state = next.stages.emplace_back();
    state.name = stage.name;
    if (before == known.stages.end()) continue;
    if (!changed.contains(stage.name)) {
      state = *before;
    } else if (!before->attempts.empty()) {
      state.attempts = before->attempts;  // all have ended, and are told of as such
      state.counted_after = before->attempts.back().number;
    }
  }
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
  // Another coordinator may have gone on with the folder, under other settings: what is remembered is stale
  // then.
  const std::optional<config::PipelineConfig> found = known == nullptr ? std::nullopt : found_config(next);
  const bool is_stale = found && config::identity_hash(*found) != config::identity_hash(known->config) &&
                        next.folder == known->folder;
  if (known == nullptr || is_stale) {
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
  if (next.identity != config::identity_hash(known->config)) {
    const std::string state = pipeline_status(*known).state;
    const bool removed =
        !fs::exists(known->folder / "pipeline.yaml") && state != "running" && state != "stopping";
    if (removed) return begin(std::move(next));
    keep_unchanged(next, *known, changed_stages(next, {known->config, known}, backend));
  }
  go_on(next);
  return next;
}

}  // namespace cosub::coordinator
