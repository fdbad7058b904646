// Runs pipelines: looks at their attempts, asks decide() what to do, and does it, state first: what it is
// about to do is committed to the Store before it is done. Killed at any instruction and made again over the
// same Store, it adopts what runs, starts nothing twice and forgets nothing. All calls on the one strand that
// owns the state; they block no longer than a commit, a fork, or the killing of a job's remains.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/protocol.h"
#include "coordinator/admission.h"
#include "coordinator/decide.h"
#include "coordinator/launch.h"
#include "coordinator/metrics.h"
#include "coordinator/state.h"
#include "coordinator/store.h"
#include "launcher/backends/backend.h"

namespace cosub::coordinator {

struct SupervisorOptions {
  LaunchOptions launch;
  std::string address;           // host:port that workers reach us at
  std::function<Instant()> now;  // monotonic
  /// By cluster.backend; ConfigError for an unknown one. The backend outlives the supervisor.
  std::function<launcher::Backend&(const std::string&)> backend;
  /// For tests: called before and after every commit and every act; what it throws ends the supervisor there.
  std::function<void(const char* where)> fault_point = [](const char*) {};
};

class Supervisor {
 public:
  /// Takes up what the store holds: timers start anew, jobs that run are told the new address and generation.
  Supervisor(Store& store, SupervisorOptions options);

  /// Looks, decides and acts until there is nothing more to do right now. Call it every 200 ms or so.
  void tick();

  // What the API offers. Refusal carries the HTTP status.
  protocol::PipelineView submit(const std::string& yaml);
  std::vector<protocol::PipelineView> list() const;
  protocol::PipelineView view(const std::string& pipeline) const;
  protocol::PipelineView stop(const std::string& pipeline, bool now, const std::string& reason);
  protocol::PipelineView resume(const std::string& pipeline);
  nlohmann::json service_discovery() const;
  std::string metrics_text();

  /// Refusal 404 for a UUID nobody knows, 401 for a wrong token. "void" for an attempt that is over.
  protocol::Directive report(const std::string& uuid, const std::string& token,
                             const protocol::Report& report);

  void stop_all(const std::string& reason);
  bool idle() const;  // no attempt is live and no stop is under way
  /// Something (a full disk, say) keeps it from recording what happened, and no job is left to wait for: it
  /// may end as it is, because the next start finds the same as it would.
  bool blocked_with_nothing_running() const;

 private:
  struct Place {
    PipelineState* pipeline = nullptr;
    StageState* stage = nullptr;
    AttemptState* attempt = nullptr;
  };

  protocol::PipelineView view(const PipelineState& pipeline) const;
  bool step(PipelineState& pipeline);
  Observations observe_all(const PipelineState& pipeline);
  void apply(PipelineState& pipeline, const Decision& decision);
  void create_attempt(PipelineState& pipeline, StageState& stage);
  void start(PipelineState& pipeline, StageState& stage);
  void note_failed_start(PipelineState& pipeline, StageState& stage, const std::string& problem);
  void ask_stop(PipelineState& pipeline, StageState& stage, const Decision& decision);
  void kill(PipelineState& pipeline, AttemptState& attempt, const Decision& decision);
  void clear(PipelineState& pipeline, StageState& stage);
  void end(PipelineState& pipeline, StageState& stage, const Verdict& verdict,
           const AttemptObservation* seen);

  void commit(PipelineState& pipeline, StageState& stage, StageState changed);
  void commit(PipelineState changed);
  void tell_address(const PipelineState& pipeline);
  void try_write_results(const PipelineState& pipeline);
  void complain(const std::string& about, const std::string& problem);

  launcher::Backend& backend_of(const PipelineState& pipeline) const;
  PipelineState& find(const std::string& pipeline);
  const PipelineState& find(const std::string& pipeline) const;
  Place find_attempt(const std::string& uuid);

  Store& store_;
  SupervisorOptions options_;
  std::vector<PipelineState> pipelines_;           // in the order of their submission
  Observations seen_;                              // of the pipeline that step() is at
  std::map<std::string, Instant> not_before_;      // pipelines whose last act failed on I/O
  std::map<std::string, std::string> complaints_;  // last one logged, so that it is logged once
  CoordinatorMetrics metrics_;
};

}  // namespace cosub::coordinator
