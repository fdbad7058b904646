// Runs one mpirun to its end and nothing else: passes on requests to stop, escalates when they are not
// heeded, and leaves no process of the attempt behind. One thread, one poll(2) loop; used by cosub-attempt's
// main alone.
#pragma once

#include <chrono>
#include <optional>

#include "launcher/attempt/exit_reason.h"
#include "launcher/backends/backend.h"

namespace cosub::launcher {

/// The signals that mean something to the wrapper, blocked for this process and read from a descriptor. Make
/// it first thing in main: a request that comes earlier than the loop then waits for it instead of killing
/// us.
///   TERM, USR1: checkpoint and stop     QUIT: end at once     INT, HUP: of the terminal, not for us; dropped
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  int descriptor() const { return descriptor_; }
  StopStage take();  // what the pending signals ask for: kNone, kAsked or kAtOnce. Does not block

 private:
  int descriptor_ = -1;
};

class Supervisor {
 public:
  Supervisor(const LaunchSpec& spec, StopSignals& signals) : spec_(spec), signals_(signals) {}

  /// Starts mpirun, blocks until it has ended and (within limits) no process but this one carries the UUID.
  /// Fills started, wait_status, stop and grace. IoError when mpirun cannot be started.
  JobEnd run();

 private:
  using Clock = std::chrono::steady_clock;

  void start_mpirun();
  int wait_for_mpirun();  // its status, as waitpid(2) gives it
  void wait_for_event(int mpirun_descriptor);
  void obey(StopStage request);
  void escalate();
  bool has_ranks() const;
  void kill_job();
  void clear_leftovers();

  const LaunchSpec& spec_;
  StopSignals& signals_;
  ProcessId mpirun_;
  StopStage stop_ = StopStage::kNone;
  Clock::time_point asked_at_;
  std::optional<Clock::time_point> next_;  // when to escalate or repeat
};

}  // namespace cosub::launcher
