#include "coordinator/supervisor.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/process.h"
#include "coordinator/results.h"
#include "coordinator/token.h"
#include "coordinator/view.h"

namespace cosub::coordinator {
namespace {

/// After an act failed on I/O (a full disk, say), the pipeline is left alone for this long.
constexpr Instant kRetryPause = std::chrono::seconds(1);
/// Ends a tick in which decisions follow one another without end, which would be our own bug.
constexpr int kMaxRounds = 32;

}  // namespace

Supervisor::Supervisor(Store& store, SupervisorOptions options)
    : store_(store), options_(std::move(options)) {
  pipelines_ = store_.load();
  const Instant now = options_.now();
  for (PipelineState& pipeline : pipelines_) {
    pipeline.config = config::parse_pipeline(
        pipeline.yaml, "pipeline " + pipeline.name + " in the state database", pipeline.folder);
    for (StageState& stage : pipeline.stages) {
      stage.backoff_since = now;
      if (AttemptState* attempt = stage.live_attempt()) attempt->since = now;
    }
    tell_address(pipeline);
    std::error_code ignored;  // a folder that cannot be asked is treated as one that is not there
    if (std::filesystem::exists(pipeline.folder, ignored)) try_write_results(pipeline);
  }
}

void Supervisor::tick() {
  for (PipelineState& pipeline : pipelines_) {
    if (const auto wait = not_before_.find(pipeline.name); wait != not_before_.end()) {
      if (options_.now() < wait->second) continue;
      not_before_.erase(wait);
    }
    try {
      for (int round = 0; round < kMaxRounds && step(pipeline); ++round) {
      }
      complaints_.erase(pipeline.name);
    } catch (const std::exception& problem) {
      // Whatever one run's folder does to us (a mount that went away, say), the other pipelines go on.
      complain(pipeline.name, problem.what());
      not_before_[pipeline.name] = options_.now() + kRetryPause;
    }
  }
}

/// One round of look, decide, act. False when there was nothing to do.
bool Supervisor::step(PipelineState& pipeline) {
  seen_ = observe_all(pipeline);
  const std::vector<Decision> decisions = decide(options_.now(), pipeline, seen_);
  for (const Decision& decision : decisions) apply(pipeline, decision);
  // A job that will not die, or does not stop yet, is looked at again at the next tick.
  bool progress = false;
  for (const Decision& decision : decisions) {
    const AttemptState* attempt = pipeline.stage(decision.stage).live_attempt();
    const bool stuck = decision.action == Action::kClear && attempt != nullptr && !attempt->cleared;
    progress = progress || (!stuck && decision.action != Action::kKill);
  }
  return progress;
}

Observations Supervisor::observe_all(const PipelineState& pipeline) {
  Observations seen;
  for (const StageState& stage : pipeline.stages)
    if (const AttemptState* attempt = stage.live_attempt())
      seen[stage.name] = observe(backend_of(pipeline), pipeline.stage_folder(stage.name), *attempt);
  return seen;
}

void Supervisor::apply(PipelineState& pipeline, const Decision& decision) {
  StageState& stage = pipeline.stage(decision.stage);
  const bool again = complaints_.contains(pipeline.name);  // what failed a second ago was logged then
  if (!again && decision.action != Action::kSetStage && decision.action != Action::kCreateAttempt)
    spdlog::info("{}/{}: {}{}: {}", pipeline.name, stage.name, to_string(decision.action),
                 decision.attempt > 0 ? fmt::format(" {}", decision.attempt) : "", decision.reason);
  switch (decision.action) {
    case Action::kSetStage: {
      StageState changed = stage;
      changed.status = decision.status;
      changed.reason = decision.reason;
      commit(pipeline, stage, std::move(changed));
      if (decision.status == StageStatus::kStopped) try_write_results(pipeline);
      return;
    }
    case Action::kCreateAttempt:
      return create_attempt(pipeline, stage);
    case Action::kAdopt: {
      StageState changed = stage;
      changed.attempts.back().status = AttemptStatus::kStarted;
      changed.attempts.back().since = options_.now();
      return commit(pipeline, stage, std::move(changed));
    }
    case Action::kVoid:
      options_.fault_point("before void");
      void_attempt(pipeline.stage_folder(stage.name).attempt(decision.attempt));
      options_.fault_point("after void");
      return;
    case Action::kAskStop:
      return ask_stop(pipeline, stage, decision);
    case Action::kKill:
      return kill(pipeline, stage.attempts.back(), decision);
    case Action::kClear:
      return clear(pipeline, stage);
    case Action::kEnd:
      return end(pipeline, stage, decision.verdict, &seen_.at(stage.name));
  }
}

void Supervisor::create_attempt(PipelineState& pipeline, StageState& stage) {
  const StageFolder folder = pipeline.stage_folder(stage.name);
  StageState changed = stage;
  AttemptState attempt;
  // The folder may know of attempts that this memory does not: of another coordinator, or of a lost state
  // folder.
  const std::int64_t last = stage.attempts.empty() ? 0 : stage.attempts.back().number;
  attempt.number = std::max(last, highest_attempt(folder)) + 1;
  attempt.uuid = new_uuid();
  attempt.token = new_token();
  attempt.started_unix = unix_now();
  attempt.since = options_.now();
  changed.status = StageStatus::kRunning;
  changed.reason = fmt::format("attempt {}", attempt.number);
  changed.attempts.push_back(std::move(attempt));
  changed.metrics_addresses.clear();
  if (!complaints_.contains(pipeline.name))
    spdlog::info("{}/{}: attempt {} on {} ranks", pipeline.name, stage.name, changed.attempts.back().number,
                 pipeline.config.cluster.ranks);
  commit(pipeline, stage, std::move(changed));
  start(pipeline, stage);
}

void Supervisor::start(PipelineState& pipeline, StageState& stage) {
  launcher::Backend& backend = backend_of(pipeline);
  try {
    if (const auto why = backend.unavailable()) throw Error(*why);
    options_.fault_point("before start");
    const launcher::LaunchSpec spec =
        prepare_attempt(pipeline, stage.name, stage.attempts.back(), {options_.address, store_.generation()},
                        options_.launch);
    options_.fault_point("prepared");
    stage.attempts.back().wrapper = backend.start(spec);
    options_.fault_point("after start");
  } catch (const Error& problem) {
    return note_failed_start(pipeline, stage, problem.what());
  }
  metrics_.attempt_started();
  StageState changed = stage;
  changed.attempts.back().status = AttemptStatus::kStarted;
  commit(pipeline, stage, std::move(changed));
}

/// The attempt's place is taken first, so that a wrapper which runs against all signs cannot start a rank.
void Supervisor::note_failed_start(PipelineState& pipeline, StageState& stage, const std::string& problem) {
  spdlog::error("{}/{}: attempt {} could not be started: {}", pipeline.name, stage.name,
                stage.attempts.back().number, problem);
  bool voided = false;
  try {
    voided = void_attempt(pipeline.stage_folder(stage.name).attempt(stage.attempts.back().number));
  } catch (const IoError& also) {
    // Without the attempt's folder no wrapper can have come as far as launch.json.
    voided = !std::filesystem::exists(
        pipeline.stage_folder(stage.name).attempt(stage.attempts.back().number) / "launch.json");
    if (!voided) throw;
    spdlog::debug("void: {}", also.what());
  }
  if (!voided) return;  // a wrapper has it: the next round adopts it
  end(pipeline, stage, classify_failed_start(stage, stage.attempts.back(), problem, pipeline.config.cluster),
      nullptr);
}

void Supervisor::ask_stop(PipelineState& pipeline, StageState& stage, const Decision& decision) {
  StageState changed = stage;
  AttemptState& asked = changed.attempts.back();
  asked.stop = decision.stop;
  asked.stop_cause = decision.cause;
  asked.stop_reason = decision.reason;
  changed.status = StageStatus::kStopping;
  changed.reason = decision.reason;
  commit(pipeline, stage, std::move(changed));
  options_.fault_point("before stop");
  const bool now = decision.stop == StopRequest::kNow;
  if (!backend_of(pipeline).stop(pipeline.stage_folder(stage.name).attempt(decision.attempt), now))
    spdlog::info("{}/{}: attempt {} is gone already", pipeline.name, stage.name, decision.attempt);
  options_.fault_point("after stop");
  AttemptState& attempt = stage.attempts.back();
  attempt.stop_sent = options_.now();
  attempt.stop_sent_as = decision.stop;
  attempt.kills = 0;
}

void Supervisor::kill(PipelineState& pipeline, AttemptState& attempt, const Decision& decision) {
  options_.fault_point("before kill");
  launcher::Backend& backend = backend_of(pipeline);
  if (attempt.kills == 0)
    backend.stop(pipeline.stage_folder(decision.stage).attempt(attempt.number), true);
  else
    backend.kill_leftovers(attempt.uuid);
  options_.fault_point("after kill");
  ++attempt.kills;
}

void Supervisor::clear(PipelineState& pipeline, StageState& stage) {
  AttemptState& attempt = stage.attempts.back();
  options_.fault_point("before clear");
  attempt.cleared = backend_of(pipeline).kill_leftovers(attempt.uuid);
  options_.fault_point("after clear");
  if (attempt.cleared) return;
  stage.reason = fmt::format(
      "attempt {} is over, but processes of it survive SIGKILL (a hanging disk or device?); "
      "nothing is started until they are gone",
      attempt.number);
  complain(pipeline.name + "/" + stage.name, stage.reason);
}

void Supervisor::end(PipelineState& pipeline, StageState& stage, const Verdict& verdict,
                     const AttemptObservation* seen) {
  StageState changed = stage;
  AttemptState& attempt = changed.attempts.back();
  attempt.status = AttemptStatus::kEnded;
  attempt.end = verdict.end;
  attempt.reason = verdict.attempt_reason;
  attempt.seconds = static_cast<double>(std::max<std::int64_t>(0, unix_now() - attempt.started_unix));
  if (seen != nullptr && seen->exit) {
    attempt.exit_code = seen->exit->exit_code;
    attempt.step = seen->exit->step;
    if (seen->exit->seconds > 0) attempt.seconds = seen->exit->seconds;
  }
  changed.status = verdict.status;
  changed.reason = verdict.reason;
  changed.restarts = verdict.restarts;
  changed.backoff = verdict.backoff;
  changed.backoff_since = options_.now();
  changed.metrics_addresses.clear();
  if (seen != nullptr) changed.checkpoint_step = std::max(changed.checkpoint_step, seen->checkpoint_step);
  if (verdict.status == StageStatus::kSucceeded && seen != nullptr && seen->result) {
    changed.results = seen->result->metrics;
    changed.export_path = seen->result->export_path;
    changed.progress.phase = "done";
    changed.progress.step = std::max(changed.progress.step, seen->result->step);
    changed.progress.seconds_left = 0;
  }
  commit(pipeline, stage, std::move(changed));
  metrics_.attempt_ended(verdict.end);
  try_write_results(pipeline);
}

void Supervisor::commit(PipelineState& pipeline, StageState& stage, StageState changed) {
  options_.fault_point("before commit");
  store_.save_stage(pipeline.name, changed);
  stage = std::move(changed);
  options_.fault_point("after commit");
}

void Supervisor::complain(const std::string& about, const std::string& problem) {
  std::string& last = complaints_[about];
  if (last == problem) return;
  last = problem;
  spdlog::error("{}: {}", about, problem);
}

void Supervisor::tell_address(const PipelineState& pipeline) {
  for (const StageState& stage : pipeline.stages) {
    const StageFolder folder = pipeline.stage_folder(stage.name);
    std::error_code ignored;
    if (stage.live_attempt() == nullptr || !std::filesystem::exists(folder.root, ignored)) continue;
    try {
      write_coordinator(folder, {options_.address, store_.generation()});
    } catch (const IoError& problem) {
      spdlog::warn("{}/{}: its workers cannot be told the new address: {}", pipeline.name, stage.name,
                   problem.what());
    }
  }
}

void Supervisor::try_write_results(const PipelineState& pipeline) {
  try {
    options_.fault_point("before results");
    write_results(pipeline);
    options_.fault_point("after results");
  } catch (const IoError& problem) {
    spdlog::warn("{}: results.json could not be written: {}", pipeline.name, problem.what());
  }
}

launcher::Backend& Supervisor::backend_of(const PipelineState& pipeline) const {
  return options_.backend(pipeline.config.cluster.backend);
}

}  // namespace cosub::coordinator
