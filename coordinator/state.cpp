#include "coordinator/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/error.h"

namespace cosub::coordinator {
namespace {

template <class Enum>
using Names = std::vector<std::pair<Enum, const char*>>;

template <class Enum>
const Names<Enum>& names();

template <>
const Names<Goal>& names() {
  static const Names<Goal> table{{Goal::kRun, "run"}, {Goal::kStop, "stop"}, {Goal::kStopNow, "stop_now"}};
  return table;
}
template <>
const Names<StageStatus>& names() {
  using S = StageStatus;
  static const Names<S> table{{S::kWaiting, "waiting"},     {S::kReady, "ready"},
                              {S::kRunning, "running"},     {S::kBackoff, "backoff"},
                              {S::kStopping, "stopping"},   {S::kStopped, "stopped"},
                              {S::kSucceeded, "succeeded"}, {S::kFailed, "failed"}};
  return table;
}
template <>
const Names<AttemptStatus>& names() {
  using S = AttemptStatus;
  static const Names<S> table{
      {S::kIntended, "intended"}, {S::kStarted, "started"}, {S::kRunning, "running"}, {S::kEnded, "ended"}};
  return table;
}
template <>
const Names<StopRequest>& names() {
  using S = StopRequest;
  static const Names<S> table{{S::kNone, "none"}, {S::kCheckpoint, "checkpoint"}, {S::kNow, "now"}};
  return table;
}
template <>
const Names<StopCause>& names() {
  using S = StopCause;
  static const Names<S> table{{S::kNone, "none"}, {S::kPerson, "person"}, {S::kSilence, "silence"}};
  return table;
}
template <>
const Names<EndClass>& names() {
  using E = EndClass;
  static const Names<E> table{
      {E::kNone, "none"},          {E::kDone, "done"},       {E::kInterrupted, "interrupted"},
      {E::kOwnError, "own_error"}, {E::kOutside, "outside"}, {E::kBadInput, "bad_input"},
      {E::kVoided, "voided"}};
  return table;
}

template <class Enum>
std::string name_of(Enum value) {
  for (const auto& [entry, name] : names<Enum>())
    if (entry == value) return name;
  return "?";
}

bool busy(const StageState& stage) {
  switch (stage.status) {
    case StageStatus::kReady:
    case StageStatus::kRunning:
    case StageStatus::kBackoff:
    case StageStatus::kStopping:
      return true;
    default:
      return stage.live_attempt() != nullptr;
  }
}

/// Whether a waiting stage can still run: nothing it needs, directly or not, has failed or stopped.
bool reachable(const PipelineState& pipeline, const std::string& stage) {
  for (const std::string& needed : dependencies(pipeline.stage_config(stage))) {
    const StageState& state = pipeline.stage(needed);
    if (state.status == StageStatus::kFailed || state.status == StageStatus::kStopped) return false;
    if (state.status != StageStatus::kSucceeded && !reachable(pipeline, needed)) return false;
  }
  return true;
}

}  // namespace

StageState& PipelineState::stage(const std::string& wanted) {
  return const_cast<StageState&>(std::as_const(*this).stage(wanted));
}

const StageState& PipelineState::stage(const std::string& wanted) const {
  for (const StageState& entry : stages)
    if (entry.name == wanted) return entry;
  throw Error(fmt::format("pipeline {} has no stage {}", name, wanted));
}

const config::StageConfig& PipelineState::stage_config(const std::string& wanted) const {
  for (const config::StageConfig& entry : config.stages)
    if (entry.name == wanted) return entry;
  throw Error(fmt::format("pipeline {} has no stage {}", name, wanted));
}

std::vector<std::string> dependencies(const config::StageConfig& stage) {
  std::vector<std::string> needed = stage.after;
  if (!stage.init.stage.empty() && std::find(needed.begin(), needed.end(), stage.init.stage) == needed.end())
    needed.push_back(stage.init.stage);
  return needed;
}

PipelineStatus pipeline_status(const PipelineState& pipeline) {
  const StageState* active = nullptr;
  const StageState* failed = nullptr;
  bool all_done = true, can_go_on = false;
  for (const StageState& stage : pipeline.stages) {
    if (active == nullptr && busy(stage)) active = &stage;
    if (failed == nullptr && stage.status == StageStatus::kFailed) failed = &stage;
    all_done = all_done && stage.status == StageStatus::kSucceeded;
    can_go_on = can_go_on || (stage.status == StageStatus::kWaiting && reachable(pipeline, stage.name));
  }
  if (all_done) return {"succeeded", "all stages are complete"};
  if (active != nullptr && pipeline.goal != Goal::kRun)
    return {"stopping", fmt::format("stage {} is stopping: {}", active->name, pipeline.goal_reason)};
  if (active != nullptr)
    return {"running", fmt::format("stage {} is {}", active->name, to_string(active->status))};
  if (failed != nullptr && (pipeline.goal != Goal::kRun || !can_go_on))
    return {"failed", fmt::format("stage {} failed: {}", failed->name, failed->reason)};
  if (pipeline.goal != Goal::kRun) return {"stopped", pipeline.goal_reason};
  return {"running", "the next stage is about to start"};
}

std::string attempt_words(const std::string& stage, std::int64_t attempt) {
  return fmt::format(" (attempt {} of stage {})", attempt, stage);
}

std::string to_string(Goal value) {
  return name_of(value);
}
std::string to_string(StageStatus value) {
  return name_of(value);
}
std::string to_string(AttemptStatus value) {
  return name_of(value);
}
std::string to_string(StopRequest value) {
  return name_of(value);
}
std::string to_string(StopCause value) {
  return name_of(value);
}
std::string to_string(EndClass value) {
  return name_of(value);
}

template <class Enum>
Enum enum_from(const std::string& word) {
  for (const auto& [entry, name] : names<Enum>())
    if (word == name) return entry;
  throw DataError(fmt::format("the state database holds the unknown word '{}'", word));
}
template Goal enum_from<Goal>(const std::string&);
template StageStatus enum_from<StageStatus>(const std::string&);
template AttemptStatus enum_from<AttemptStatus>(const std::string&);
template StopRequest enum_from<StopRequest>(const std::string&);
template StopCause enum_from<StopCause>(const std::string&);
template EndClass enum_from<EndClass>(const std::string&);

}  // namespace cosub::coordinator
