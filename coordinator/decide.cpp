#include "coordinator/decide.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "common/text.h"

namespace cosub::coordinator {
namespace {

using launcher::Liveness;

struct StageView {
  Instant now;
  const PipelineState& pipeline;
  const StageState& stage;

  Decision attempt_decision(Action action, const AttemptState& attempt, const std::string& reason) const {
    return {.action = action, .stage = stage.name, .attempt = attempt.number, .reason = reason};
  }

  Decision set(StageStatus status, const std::string& reason) const {
    return {.action = Action::kSetStage, .stage = stage.name, .reason = reason, .status = status};
  }
};

/// A wrapper on a host that cannot be asked, silent and beyond all our signals: it is given up. Should it be
/// alive, the fence keeps it from committing anything.
constexpr int kKillsUntilGivenUp = 3;

bool over(const AttemptState& attempt, const AttemptObservation& seen) {
  if (seen.exit) return true;
  if (seen.liveness == Liveness::kUnknown) return attempt.kills >= kKillsUntilGivenUp;
  return seen.liveness == Liveness::kGone && seen.claim != ClaimOwner::kNobody;
}

/// Rank 0 has not been heard for longer than allowed; says so in words.
std::optional<std::string> silence(const StageView& it, const AttemptState& attempt) {
  const config::ClusterConfig& cluster = it.pipeline.config.cluster;
  // An adopted attempt that reported before the restart has the shorter limit, counted from the adoption.
  const bool heard = attempt.status == AttemptStatus::kRunning;
  const auto limit = heard ? cluster.report_timeout : cluster.start_timeout;
  const auto quiet = it.now - attempt.last_report.value_or(attempt.since);
  if (quiet < limit) return std::nullopt;
  const double seconds = std::chrono::duration<double>(quiet).count();
  return fmt::format("rank 0 sent no {} for {} (cluster.{})", heard ? "report" : "first report",
                     format_duration(seconds), heard ? "report_timeout" : "start_timeout");
}

std::optional<Decision> escalate(const StageView& it, const AttemptState& attempt) {
  if (!attempt.stop_sent) return std::nullopt;
  const auto grace =
      attempt.stop_sent_as == StopRequest::kNow ? Instant(0) : it.pipeline.config.cluster.grace;
  const auto waited = it.now - *attempt.stop_sent;
  if (waited < grace + kKillMargin * (attempt.kills + 1)) return std::nullopt;
  return it.attempt_decision(Action::kKill, attempt,
                             fmt::format("still there {} after it was asked to stop",
                                         format_duration(std::chrono::duration<double>(waited).count())));
}

std::optional<Decision> decide_stop(const StageView& it, const AttemptState& attempt) {
  const Goal goal = it.pipeline.goal;
  StopRequest wanted = attempt.stop;
  Decision ask = it.attempt_decision(Action::kAskStop, attempt, attempt.stop_reason);
  ask.cause = attempt.stop_cause;
  if (goal != Goal::kRun) {
    const StopRequest asked = goal == Goal::kStopNow ? StopRequest::kNow : StopRequest::kCheckpoint;
    wanted = std::max(wanted, asked);
    ask.cause = StopCause::kPerson;
    ask.reason = it.pipeline.goal_reason;
  } else if (attempt.stop == StopRequest::kNone) {
    if (const auto why = silence(it, attempt)) {
      wanted = StopRequest::kCheckpoint;
      ask.cause = StopCause::kSilence;
      ask.reason = *why;
    }
  }
  if (wanted == StopRequest::kNone) return std::nullopt;
  ask.stop = wanted;
  // Also when the request is on record but this process never sent it, having been restarted in between.
  if (wanted != attempt.stop || wanted != attempt.stop_sent_as || ask.cause != attempt.stop_cause) return ask;
  return escalate(it, attempt);
}

std::optional<Decision> decide_live(const StageView& it, const AttemptState& attempt,
                                    const AttemptObservation& seen) {
  if (over(attempt, seen) && !attempt.cleared)
    return it.attempt_decision(Action::kClear, attempt, "it is over: nothing of it may stay");
  if (over(attempt, seen)) {
    Decision end = it.attempt_decision(Action::kEnd, attempt, "");
    end.verdict = classify_exit(it.stage, attempt, seen, it.pipeline.config.cluster);
    // Resumed in between: the stop it was asked for no longer holds.
    if (it.pipeline.goal == Goal::kRun && end.verdict.status == StageStatus::kStopped)
      end.verdict.status = StageStatus::kReady;
    end.reason = end.verdict.reason;
    return end;
  }
  if (seen.liveness == Liveness::kGone)
    return it.attempt_decision(Action::kVoid, attempt, "no process and no claim of it is to be found");
  if (seen.liveness == Liveness::kRunning && attempt.status == AttemptStatus::kIntended)
    return it.attempt_decision(Action::kAdopt, attempt, "found running");
  return decide_stop(it, attempt);
}

std::optional<std::string> what_it_waits_for(const StageView& it) {
  for (const std::string& needed : dependencies(it.pipeline.stage_config(it.stage.name))) {
    const StageStatus status = it.pipeline.stage(needed).status;
    if (status == StageStatus::kFailed) return fmt::format("waits for stage {}, which failed", needed);
    if (status != StageStatus::kSucceeded) return fmt::format("waits for stage {}", needed);
  }
  return std::nullopt;
}

const StageState* another_that_holds_the_ranks(const StageView& it) {
  for (const StageState& other : it.pipeline.stages)
    if (other.name != it.stage.name &&
        (other.live_attempt() != nullptr || other.status == StageStatus::kBackoff))
      return &other;
  return nullptr;
}

/// Without an attempt, while the pipeline is to run.
std::optional<Decision> decide_idle(const StageView& it, bool taken) {
  const StageState& stage = it.stage;
  switch (stage.status) {
    case StageStatus::kSucceeded:
    case StageStatus::kFailed:
      return std::nullopt;
    case StageStatus::kBackoff:
      if (it.now - stage.backoff_since < stage.backoff) return std::nullopt;
      break;
    default:
      if (const auto waits = what_it_waits_for(it)) {
        if (stage.status == StageStatus::kWaiting && stage.reason == *waits) return std::nullopt;
        return it.set(StageStatus::kWaiting, *waits);
      }
  }
  const StageState* other = another_that_holds_the_ranks(it);
  if (other == nullptr && !taken)
    return Decision{.action = Action::kCreateAttempt, .stage = stage.name, .reason = "its turn has come"};
  if (stage.status == StageStatus::kReady || other == nullptr) return std::nullopt;
  return it.set(StageStatus::kReady, fmt::format("waits until stage {} leaves its ranks", other->name));
}

/// Without an attempt, while the pipeline is to stop.
std::optional<Decision> decide_halt(const StageView& it) {
  switch (it.stage.status) {
    case StageStatus::kReady:
    case StageStatus::kRunning:
    case StageStatus::kBackoff:
    case StageStatus::kStopping:
      return it.set(StageStatus::kStopped, it.pipeline.goal_reason);
    default:
      return std::nullopt;
  }
}

}  // namespace

std::vector<Decision> decide(Instant now, const PipelineState& pipeline, const Observations& seen) {
  std::vector<Decision> decisions;
  bool taken = false;  // by an attempt decided on right here
  for (const StageState& stage : pipeline.stages) {
    const StageView it{now, pipeline, stage};
    std::optional<Decision> decision;
    if (const AttemptState* attempt = stage.live_attempt()) {
      const auto found = seen.find(stage.name);
      if (found != seen.end()) decision = decide_live(it, *attempt, found->second);
    } else if (pipeline.goal == Goal::kRun) {
      decision = decide_idle(it, taken);
    } else {
      decision = decide_halt(it);
    }
    if (!decision) continue;
    taken = taken || decision->action == Action::kCreateAttempt;
    decisions.push_back(std::move(*decision));
  }
  return decisions;
}

std::string to_string(Action action) {
  switch (action) {
    case Action::kSetStage:
      return "set stage";
    case Action::kCreateAttempt:
      return "create attempt";
    case Action::kAdopt:
      return "adopt attempt";
    case Action::kVoid:
      return "void attempt";
    case Action::kAskStop:
      return "ask to stop";
    case Action::kKill:
      return "kill";
    case Action::kClear:
      return "clear up after";
    case Action::kEnd:
      return "end attempt";
  }
  return "?";
}

}  // namespace cosub::coordinator
