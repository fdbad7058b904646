// What people and workers ask of the Supervisor (supervisor.h); carrying pipelines on is in supervisor.cpp.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"
#include "common/version.h"
#include "coordinator/supervisor.h"
#include "coordinator/token.h"
#include "coordinator/view.h"

namespace cosub::coordinator {
namespace {

config::PipelineConfig parsed(const std::string& yaml) {
  try {
    return config::parse_pipeline(yaml, "submitted pipeline", std::filesystem::current_path());
  } catch (const ConfigError& problem) {
    throw Refusal(400, problem.what());
  }
}

}  // namespace

protocol::PipelineView Supervisor::submit(const std::string& yaml) {
  const config::PipelineConfig config = parsed(yaml);
  const PipelineState* known = nullptr;
  for (const PipelineState& pipeline : pipelines_)
    if (pipeline.name == config.name) known = &pipeline;
  launcher::Backend* backend = nullptr;
  try {
    backend = &options_.backend(config.cluster.backend);
  } catch (const ConfigError& problem) {
    throw Refusal(400, problem.what());
  }
  PipelineState next = admit(config, yaml, known, *backend);

  std::error_code error;
  std::filesystem::create_directories(next.folder, error);
  if (error) throw IoError(fmt::format("{}: cannot create it: {}", next.folder.string(), error.message()));
  write_file_atomically(next.folder / "pipeline.yaml",
                        fmt::format("# cosub {}; identity {}\n{}", kVersion, next.identity, yaml));
  spdlog::info("{}: {} in {}", config.name, known == nullptr ? "submitted" : "submitted again",
               next.folder.string());
  commit(std::move(next));
  return view(config.name);
}

std::vector<protocol::PipelineView> Supervisor::list() const {
  std::vector<protocol::PipelineView> views;
  for (const PipelineState& pipeline : pipelines_) views.push_back(view(pipeline));
  return views;
}

protocol::PipelineView Supervisor::view(const std::string& pipeline) const {
  return view(find(pipeline));
}

protocol::PipelineView Supervisor::view(const PipelineState& pipeline) const {
  protocol::PipelineView view = view_of(pipeline, options_.now(), unix_now());
  const auto trouble = complaints_.find(pipeline.name);
  if (trouble == complaints_.end() || (view.state != "running" && view.state != "stopping")) return view;
  view.state = "blocked";
  view.reason =
      fmt::format("{} (tried again every second; it goes on as soon as that is mended)", trouble->second);
  return view;
}

protocol::PipelineView Supervisor::stop(const std::string& name, bool now, const std::string& reason) {
  const std::string state = pipeline_status(find(name)).state;
  if (state == "running" || state == "stopping") {
    PipelineState changed = find(name);
    if (changed.goal != Goal::kStopNow) changed.goal = now ? Goal::kStopNow : Goal::kStop;
    changed.goal_reason = reason.empty() ? "stopped on request" : reason;
    spdlog::info("{}: to stop{}: {}", name, now ? " at once" : "", changed.goal_reason);
    commit(std::move(changed));
  }
  return view(name);
}

protocol::PipelineView Supervisor::resume(const std::string& name) {
  PipelineState changed = find(name);
  go_on(changed);
  spdlog::info("{}: to go on", name);
  commit(std::move(changed));
  return view(name);
}

nlohmann::json Supervisor::service_discovery() const {
  std::vector<const PipelineState*> all;
  for (const PipelineState& pipeline : pipelines_) all.push_back(&pipeline);
  return coordinator::service_discovery(all);
}

std::string Supervisor::metrics_text() {
  std::map<std::string, int> states;
  for (const PipelineState& pipeline : pipelines_) ++states[pipeline_status(pipeline).state];
  return metrics_.text(states);
}

protocol::Directive Supervisor::report(const std::string& uuid, const std::string& token,
                                       const protocol::Report& report) {
  const Place place = find_attempt(uuid);
  if (place.attempt == nullptr)
    throw Refusal(404, fmt::format("attempt {} is not known to this coordinator", uuid));
  if (!same_token(token, place.attempt->token))
    throw Refusal(401, fmt::format("wrong token for attempt {}: it is in its folder's file `token`", uuid));
  protocol::Directive directive{"none", store_.generation()};
  if (!place.attempt->live()) {
    directive.action = "void";
    return directive;
  }
  StageState& stage = *place.stage;
  place.attempt->last_report = options_.now();
  stage.progress = report.progress;
  stage.metrics_addresses = report.metrics_addresses;
  const bool new_checkpoint = report.progress.checkpoint_step > stage.checkpoint_step;
  if (new_checkpoint || place.attempt->status != AttemptStatus::kRunning) {
    StageState changed = stage;
    changed.attempts.back().status = AttemptStatus::kRunning;
    if (new_checkpoint) {
      changed.checkpoint_step = report.progress.checkpoint_step;
      changed.restarts = 0;
    }
    commit(*place.pipeline, stage, std::move(changed));
  }
  if (stage.attempts.back().stop == StopRequest::kCheckpoint) directive.action = "stop";
  if (stage.attempts.back().stop == StopRequest::kNow) directive.action = "stop_now";
  return directive;
}

void Supervisor::stop_all(const std::string& reason) {
  std::vector<std::string> running;
  for (const PipelineState& pipeline : pipelines_)
    if (pipeline_status(pipeline).state == "running") running.push_back(pipeline.name);
  for (const std::string& name : running) stop(name, false, reason);
}

bool Supervisor::idle() const {
  for (const PipelineState& pipeline : pipelines_) {
    if (pipeline_status(pipeline).state == "stopping") return false;
    for (const StageState& stage : pipeline.stages)
      if (stage.live_attempt() != nullptr) return false;
  }
  return true;
}

bool Supervisor::blocked_with_nothing_running() const {
  if (complaints_.empty()) return false;
  for (const PipelineState& pipeline : pipelines_) {
    for (const StageState& stage : pipeline.stages) {
      const AttemptState* attempt = stage.live_attempt();
      if (attempt == nullptr) continue;
      if (is_alive(attempt->wrapper)) return false;
      const auto folder = pipeline.stage_folder(stage.name).attempt(attempt->number);
      if (backend_of(pipeline).probe(folder, attempt->uuid) != launcher::Liveness::kGone) return false;
    }
  }
  return true;
}

void Supervisor::commit(PipelineState changed) {
  options_.fault_point("before commit");
  store_.save(changed);
  bool known = false;
  for (PipelineState& pipeline : pipelines_) {
    if (pipeline.name != changed.name) continue;
    pipeline = changed;
    known = true;
  }
  if (!known) pipelines_.push_back(std::move(changed));
  options_.fault_point("after commit");
}

PipelineState& Supervisor::find(const std::string& name) {
  return const_cast<PipelineState&>(std::as_const(*this).find(name));
}

const PipelineState& Supervisor::find(const std::string& name) const {
  for (const PipelineState& pipeline : pipelines_)
    if (pipeline.name == name) return pipeline;
  throw Refusal(404, fmt::format("no pipeline '{}' here; `cosub status` lists those there are", name));
}

Supervisor::Place Supervisor::find_attempt(const std::string& uuid) {
  for (PipelineState& pipeline : pipelines_)
    for (StageState& stage : pipeline.stages)
      for (AttemptState& attempt : stage.attempts)
        if (attempt.uuid == uuid) return {&pipeline, &stage, &attempt};
  return {};
}

}  // namespace cosub::coordinator
