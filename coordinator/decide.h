// The coordinator's mind: what to do next for one pipeline, as a pure function of the time, the state, and
// what can be seen of its live attempts. Each decision carries the reason that people will read. supervisor.h
// carries them out.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "coordinator/classify_exit.h"
#include "coordinator/state.h"

namespace cosub::coordinator {

enum class Action {
  kSetStage,       // change a stage's status; nothing else happens
  kCreateAttempt,  // commit the intent, then start it
  kAdopt,          // an intended attempt runs: note it
  kVoid,           // nobody claimed it and nothing of it is to be found: take its claim
  kAskStop,        // tell the wrapper to checkpoint and stop, or to stop at once
  kKill,           // it did not stop in time: QUIT first, then SIGKILL to everything with its UUID
  kClear,          // it is over: kill what still carries its UUID, before anything else may start
  kEnd,            // over and cleared: note how it ended and what that means
};

struct Decision {
  Action action = Action::kSetStage;
  std::string stage;
  std::int64_t attempt = 0;                    // 0 with kSetStage and kCreateAttempt
  std::string reason;                          // in words
  StageStatus status = StageStatus::kWaiting;  // kSetStage
  StopRequest stop = StopRequest::kNone;       // kAskStop
  StopCause cause = StopCause::kNone;          // kAskStop
  Verdict verdict = {};                        // kEnd
};

/// By stage; every stage with a live attempt has one.
using Observations = std::map<std::string, AttemptObservation>;

/// How long a wrapper may overrun `grace` before it is told to quit, and then until it is killed.
inline constexpr std::chrono::milliseconds kKillMargin = std::chrono::seconds(15);

/// At most one decision a stage. Stages of a pipeline run one at a time (each takes all of cluster.ranks).
std::vector<Decision> decide(Instant now, const PipelineState& pipeline, const Observations& seen);

std::string to_string(Action action);

}  // namespace cosub::coordinator
