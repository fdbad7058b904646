// What the end of an attempt means for its stage: done, again (at once or after a pause), stopped, or failed.
// Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "coordinator/results.h"
#include "coordinator/state.h"
#include "launcher/backends/backend.h"

namespace cosub::coordinator {

enum class ClaimOwner { kNobody, kWrapper, kCoordinator };

/// What can be seen of a live attempt from outside, gathered anew at each tick.
struct AttemptObservation {
  launcher::Liveness liveness = launcher::Liveness::kUnknown;  // of the wrapper
  ClaimOwner claim = ClaimOwner::kNobody;
  std::optional<launcher::ExitRecord> exit;  // exit.json
  std::int64_t checkpoint_step = -1;         // newest folder there; read once the attempt is over
  std::optional<StageResult> result;         // result.json; likewise
  std::string result_problem;                // it is there and damaged
};

struct Verdict {
  EndClass end = EndClass::kNone;
  StageStatus status = StageStatus::kReady;  // the stage's next one; kReady: start again at once
  std::chrono::milliseconds backoff{0};      // with kBackoff
  std::string reason;                        // of the stage, in words
  std::string attempt_reason;                // of the attempt
  std::int64_t restarts = 0;                 // the stage's new count
};

/// Three of the worker's own errors with one reason at one step are a crash loop.
inline constexpr int kCrashLoop = 3;

/// `attempt` is stage.attempts.back() and over: it has an exit record, or its wrapper is gone without one.
Verdict classify_exit(const StageState& stage, const AttemptState& attempt, const AttemptObservation& seen,
                      const config::ClusterConfig& cluster);

/// An attempt that never got as far as a wrapper: counts as the worker's own error.
Verdict classify_failed_start(const StageState& stage, const AttemptState& attempt,
                              const std::string& problem, const config::ClusterConfig& cluster);

}  // namespace cosub::coordinator
