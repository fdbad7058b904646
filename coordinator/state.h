// What the coordinator knows of pipelines, stages and attempts: plain structs, owned by the Supervisor's
// strand, kept by the Store. Fields under "memory only" are not stored: after a restart every timer starts
// anew, because no decision may rest on a clock of another process.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "common/process.h"
#include "common/protocol.h"
#include "common/run_folder.h"

namespace cosub::coordinator {

/// Monotonic time of this process; meaningless in any other.
using Instant = std::chrono::milliseconds;

enum class Goal { kRun, kStop, kStopNow };
enum class StageStatus { kWaiting, kReady, kRunning, kBackoff, kStopping, kStopped, kSucceeded, kFailed };
enum class AttemptStatus { kIntended, kStarted, kRunning, kEnded };
enum class StopRequest { kNone, kCheckpoint, kNow };
enum class StopCause { kNone, kPerson, kSilence };

/// Why an attempt ended, as far as it matters for what comes next.
enum class EndClass {
  kNone,         // it has not
  kDone,         // the stage is complete
  kInterrupted,  // stopped after a checkpoint (75)
  kOwnError,     // the worker's own failure: the same again is a crash loop
  kOutside,      // killed, lost, silent
  kBadInput,     // 78: never retried
  kVoided,       // never ran: the coordinator took its claim
};

struct AttemptState {
  std::int64_t number = 0;
  std::string uuid;
  std::string token;  // bearer token of its reports
  AttemptStatus status = AttemptStatus::kIntended;
  StopRequest stop = StopRequest::kNone;
  StopCause stop_cause = StopCause::kNone;
  std::string stop_reason;
  EndClass end = EndClass::kNone;
  std::string reason;  // how it ended
  int exit_code = -1;
  std::int64_t step = -1;  // where it ended
  double seconds = 0;
  std::int64_t started_unix = 0;  // wall clock, for display only

  // Memory only.
  Instant since{0};                    // started or adopted by this coordinator
  std::optional<Instant> last_report;  // of rank 0, to this coordinator
  std::optional<Instant> stop_sent;    // when this coordinator last signalled the wrapper
  StopRequest stop_sent_as = StopRequest::kNone;
  int kills = 0;         // escalations since stop_sent
  ProcessId wrapper;     // as start() gave it; none after a restart
  bool cleared = false;  // nothing carries its UUID any more

  bool live() const { return status != AttemptStatus::kEnded; }
};

struct StageState {
  std::string name;
  StageStatus status = StageStatus::kWaiting;
  std::string reason;
  std::vector<AttemptState> attempts;  // ascending numbers
  std::int64_t counted_after =
      0;                      // attempts up to this one do not count towards a crash loop (resumed since)
  std::int64_t restarts = 0;  // since the last new checkpoint
  std::int64_t checkpoint_step = -1;  // newest ever seen
  std::chrono::milliseconds backoff{0};
  protocol::Progress progress;
  std::map<std::string, double> results;
  std::string export_path;

  // Memory only.
  Instant backoff_since{0};
  std::vector<std::string> metrics_addresses;  // of the live attempt

  const AttemptState* live_attempt() const {
    return !attempts.empty() && attempts.back().live() ? &attempts.back() : nullptr;
  }
  AttemptState* live_attempt() {
    return !attempts.empty() && attempts.back().live() ? &attempts.back() : nullptr;
  }
};

struct PipelineState {
  std::string name;
  std::filesystem::path folder;   // runs/NAME, absolute
  std::string yaml;               // as submitted
  std::string identity;           // config::identity_hash
  config::PipelineConfig config;  // parsed from yaml
  Goal goal = Goal::kRun;
  std::string goal_reason;         // who asked for the stop
  std::vector<StageState> stages;  // in the order of config.stages

  StageFolder stage_folder(const std::string& stage) const { return StageFolder{folder / stage}; }
  StageState& stage(const std::string& stage);
  const StageState& stage(const std::string& stage) const;
  const config::StageConfig& stage_config(const std::string& stage) const;
};

/// init.stage and after, each once.
std::vector<std::string> dependencies(const config::StageConfig& stage);

/// running | stopping | stopped | succeeded | failed, and why, in words. Derived from goal and stages alone.
struct PipelineStatus {
  std::string state;
  std::string reason;
};
PipelineStatus pipeline_status(const PipelineState& pipeline);

/// " (attempt 2 of stage pretrain)"
std::string attempt_words(const std::string& stage, std::int64_t attempt);

std::string to_string(Goal value);
std::string to_string(StageStatus value);
std::string to_string(AttemptStatus value);
std::string to_string(StopRequest value);
std::string to_string(StopCause value);
std::string to_string(EndClass value);

/// The inverse of to_string; DataError for a word that is none of them.
template <class Enum>
Enum enum_from(const std::string& word);

}  // namespace cosub::coordinator
