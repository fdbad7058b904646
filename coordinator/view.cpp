#include "coordinator/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace cosub::coordinator {
namespace {

std::string task_name(config::TaskKind task) {
  switch (task) {
    case config::TaskKind::kClassify:
      return "classify";
    case config::TaskKind::kEvaluate:
      return "evaluate";
    case config::TaskKind::kExport:
      return "export";
  }
  return "?";
}

std::string state_of(const AttemptState& attempt) {
  if (!attempt.live()) return "ended";
  if (attempt.stop != StopRequest::kNone) return "stopping";
  return attempt.status == AttemptStatus::kRunning ? "running" : "starting";
}

protocol::AttemptView view_of(const StageFolder& folder, const AttemptState& attempt,
                              std::int64_t wall_clock) {
  protocol::AttemptView view;
  view.number = attempt.number;
  view.uuid = attempt.uuid;
  view.state = state_of(attempt);
  view.reason = attempt.live() ? attempt.stop_reason : attempt.reason;
  view.exit_code = attempt.exit_code;
  view.folder = folder.attempt(attempt.number).string();
  view.seconds = attempt.live()
                     ? static_cast<double>(std::max<std::int64_t>(0, wall_clock - attempt.started_unix))
                     : attempt.seconds;
  return view;
}

std::string reason_of(const StageState& stage, Instant now) {
  if (stage.status != StageStatus::kBackoff) return stage.reason;
  const double left = std::chrono::duration<double>(stage.backoff_since + stage.backoff - now).count();
  return fmt::format("restarting in {:.0f} s: {}", std::ceil(std::max(0.0, left)), stage.reason);
}

protocol::StageView view_of(const PipelineState& pipeline, const StageState& stage, Instant now,
                            std::int64_t wall_clock) {
  protocol::StageView view;
  view.name = stage.name;
  view.task = task_name(pipeline.stage_config(stage.name).task);
  view.state = to_string(stage.status);
  view.reason = reason_of(stage, now);
  view.progress = stage.progress;
  view.results = stage.results;
  view.export_path = stage.export_path;
  view.metrics_addresses = stage.metrics_addresses;
  for (const AttemptState& attempt : stage.attempts) {
    view.attempts.push_back(view_of(pipeline.stage_folder(stage.name), attempt, wall_clock));
    view.seconds += view.attempts.back().seconds;
  }
  return view;
}

}  // namespace

std::int64_t unix_now() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count();
}

protocol::PipelineView view_of(const PipelineState& pipeline, Instant now, std::int64_t wall_clock) {
  const PipelineStatus status = pipeline_status(pipeline);
  protocol::PipelineView view;
  view.name = pipeline.name;
  view.state = status.state;
  view.reason = status.reason;
  view.folder = pipeline.folder.string();
  for (const StageState& stage : pipeline.stages)
    view.stages.push_back(view_of(pipeline, stage, now, wall_clock));
  return view;
}

nlohmann::json service_discovery(const std::vector<const PipelineState*>& pipelines) {
  nlohmann::json groups = nlohmann::json::array();
  for (const PipelineState* pipeline : pipelines)
    for (const StageState& stage : pipeline->stages) {
      const AttemptState* attempt = stage.live_attempt();
      if (attempt == nullptr || stage.metrics_addresses.empty()) continue;
      groups.push_back({{"targets", stage.metrics_addresses},
                        {"labels",
                         {{"pipeline", pipeline->name},
                          {"stage", stage.name},
                          {"attempt", std::to_string(attempt->number)}}}});
    }
  return groups;
}

}  // namespace cosub::coordinator
