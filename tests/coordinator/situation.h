// Pipelines as plain state, for the tests of the pure decisions: no files, no clock, no processes.
#pragma once

#include <string>
#include <vector>

#include "coordinator/decide.h"

namespace cosub::testing {

using namespace std::chrono_literals;

/// pretrain -> finetune -> evaluate, all waiting.
inline coordinator::PipelineState three_stages() {
  coordinator::PipelineState pipeline;
  pipeline.name = "p";
  pipeline.folder = "/runs/p";
  std::string before;
  for (const char* name : {"pretrain", "finetune", "evaluate"}) {
    config::StageConfig stage;
    stage.name = name;
    stage.init.stage = before;
    before = name;
    pipeline.config.stages.push_back(stage);
    pipeline.stages.emplace_back().name = name;
  }
  return pipeline;
}

/// Gives the stage one more attempt, live, of the given status.
inline coordinator::AttemptState& add_attempt(coordinator::StageState& stage,
                                              coordinator::AttemptStatus status) {
  coordinator::AttemptState attempt;
  attempt.number = static_cast<std::int64_t>(stage.attempts.size()) + 1;
  attempt.uuid = "uuid-" + stage.name + "-" + std::to_string(attempt.number);
  attempt.status = status;
  stage.attempts.push_back(attempt);
  stage.status = coordinator::StageStatus::kRunning;
  return stage.attempts.back();
}

inline void add_ended(coordinator::StageState& stage, coordinator::EndClass end, const std::string& reason,
                      std::int64_t step) {
  coordinator::AttemptState& attempt = add_attempt(stage, coordinator::AttemptStatus::kEnded);
  attempt.end = end;
  attempt.reason = reason;
  attempt.step = step;
}

inline coordinator::AttemptObservation running() {
  coordinator::AttemptObservation seen;
  seen.liveness = launcher::Liveness::kRunning;
  seen.claim = coordinator::ClaimOwner::kWrapper;
  return seen;
}

inline coordinator::AttemptObservation gone(coordinator::ClaimOwner claim) {
  coordinator::AttemptObservation seen;
  seen.liveness = launcher::Liveness::kGone;
  seen.claim = claim;
  return seen;
}

inline coordinator::AttemptObservation exited(int code, const std::string& reason, bool from_outside = false,
                                              std::int64_t step = -1) {
  coordinator::AttemptObservation seen = gone(coordinator::ClaimOwner::kWrapper);
  seen.exit = launcher::ExitRecord{};
  seen.exit->exit_code = code;
  seen.exit->reason = reason;
  seen.exit->from_outside = from_outside;
  seen.exit->step = step;
  return seen;
}

}  // namespace cosub::testing
