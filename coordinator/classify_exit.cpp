#include "coordinator/classify_exit.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/exit_code.h"
#include "common/text.h"

namespace cosub::coordinator {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstOutsideBackoff{200};

/// first, 2 first, 4 first, ... for n = 1, 2, 3, ..., at most `limit`.
milliseconds doubling(milliseconds first, std::int64_t n, milliseconds limit) {
  milliseconds pause = first;
  for (std::int64_t i = 1; i < n && pause < limit; ++i) pause *= 2;
  return std::min(pause, limit);
}

/// Reasons of one error may differ in what they count (bytes free, samples, a rank).
bool same_but_for_numbers(const std::string& a, const std::string& b) {
  const auto without_digits = [](std::string text) {
    std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
    return text;
  };
  return without_digits(a) == without_digits(b);
}

struct Case {
  const StageState& stage;
  const AttemptState& attempt;
  const config::ClusterConfig& cluster;
  std::int64_t restarts_before;  // 0 when the attempt brought a new checkpoint

  std::string words(const std::string& what) const {
    return what + attempt_words(stage.name, attempt.number);
  }

  Verdict verdict(EndClass end, StageStatus status, const std::string& what) const {
    return {end, status, milliseconds(0), words(what), what, restarts_before};
  }

  bool asked_by_person() const { return attempt.stop_cause == StopCause::kPerson; }

  /// Start again unless the restarts since the last new checkpoint are used up.
  Verdict again(EndClass end, const std::string& what, milliseconds pause) const {
    Verdict next = verdict(end, pause.count() > 0 ? StageStatus::kBackoff : StageStatus::kReady, what);
    next.backoff = pause;
    next.restarts = restarts_before + 1;
    if (next.restarts > cluster.max_restarts) {
      next.status = StageStatus::kFailed;
      next.backoff = milliseconds(0);
      next.reason = fmt::format(
          "{}; that was restart {} without a new checkpoint (cluster.max_restarts: {}). Look into the "
          "attempt's "
          "logs, then submit the pipeline again",
          next.reason, next.restarts, cluster.max_restarts);
    }
    return next;
  }

  Verdict outside(const std::string& what) const {
    if (asked_by_person())
      return verdict(EndClass::kOutside, StageStatus::kStopped,
                     what + " while it was being stopped; it will go on from the last checkpoint");
    const std::int64_t n = restarts_before + 1;
    const milliseconds pause = n == 1 ? std::min(kFirstOutsideBackoff, cluster.backoff_max)
                                      : doubling(cluster.backoff, n - 1, cluster.backoff_max);
    return again(EndClass::kOutside, what, pause);
  }

  Verdict own_error(const std::string& what, std::int64_t step) const {
    if (asked_by_person())
      return verdict(EndClass::kOwnError, StageStatus::kStopped,
                     what + " while it was being stopped; it will go on from the last checkpoint");
    std::int64_t same = 1;
    for (const AttemptState& past : stage.attempts)
      if (past.number > stage.counted_after && past.number != attempt.number &&
          past.end == EndClass::kOwnError && past.step == step && same_but_for_numbers(past.reason, what))
        ++same;
    Verdict next =
        again(EndClass::kOwnError, what, doubling(cluster.backoff, restarts_before + 1, cluster.backoff_max));
    if (same >= kCrashLoop && next.status != StageStatus::kFailed) {
      next.status = StageStatus::kFailed;
      next.backoff = milliseconds(0);
      next.reason = fmt::format(
          "{}: {} attempts ended so{}. Look into the attempt's logs, then submit the pipeline again",
          words(what), same, step >= 0 ? fmt::format(" at step {}", step) : "");
    }
    return next;
  }
};

std::string or_code(const launcher::ExitRecord& record) {
  return record.reason.empty() ? fmt::format("ended with exit code {}", record.exit_code) : record.reason;
}

}  // namespace

Verdict classify_exit(const StageState& stage, const AttemptState& attempt, const AttemptObservation& seen,
                      const config::ClusterConfig& cluster) {
  const bool new_checkpoint = seen.checkpoint_step > stage.checkpoint_step;
  const Case it{stage, attempt, cluster, new_checkpoint ? 0 : stage.restarts};
  const bool never_ran = attempt.status == AttemptStatus::kIntended && seen.claim == ClaimOwner::kCoordinator;
  if (!seen.exit && never_ran)
    return it.verdict(EndClass::kVoided, StageStatus::kReady, "never started; its place was taken");
  if (!seen.exit && attempt.stop_cause == StopCause::kSilence)
    return it.outside(attempt.stop_reason + "; it was killed");
  if (!seen.exit)
    return it.outside("its wrapper process vanished without a word (killed, or the machine went down)");

  const launcher::ExitRecord& record = *seen.exit;
  const std::string what = or_code(record);
  switch (record.exit_code) {
    case static_cast<int>(ExitCode::kDone):
      if (!seen.result_problem.empty()) return it.own_error(seen.result_problem, record.step);
      if (!seen.result) return it.own_error("ended well but left no result.json", record.step);
      return it.verdict(EndClass::kDone, StageStatus::kSucceeded, "complete");
    case static_cast<int>(ExitCode::kBadInput):
      return it.verdict(EndClass::kBadInput, StageStatus::kFailed, what);
    case static_cast<int>(ExitCode::kInterrupted):
      if (attempt.stop_cause == StopCause::kPerson)
        return it.verdict(EndClass::kInterrupted, StageStatus::kStopped, attempt.stop_reason);
      if (attempt.stop_cause == StopCause::kSilence) return it.outside(attempt.stop_reason);
      return it.again(EndClass::kInterrupted, what, milliseconds(0));
    default:
      if (attempt.stop_cause == StopCause::kSilence)
        return it.outside(attempt.stop_reason + "; then " + what);
      return record.from_outside ? it.outside(what) : it.own_error(what, record.step);
  }
}

Verdict classify_failed_start(const StageState& stage, const AttemptState& attempt,
                              const std::string& problem, const config::ClusterConfig& cluster) {
  return Case{stage, attempt, cluster, stage.restarts}.own_error("could not be started: " + problem, -1);
}

}  // namespace cosub::coordinator
