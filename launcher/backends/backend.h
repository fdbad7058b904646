// Turns "this stage, these resources" into a running MPI job, finds it again, signals it, and reads how it
// ended. A backend starts one process per attempt, the wrapper (launcher/attempt, program cosub-attempt), in
// a session of its own so that it outlives the coordinator; everything else about the job is the wrapper's
// business. Nothing here decides: the coordinator does. Calls block briefly (fork, small files). Not
// thread-safe.
//
// Files of one attempt, all in STAGE/attempts/N/ (N from 1):
//   launch.json   written by the coordinator before the start: LaunchSpec
//   claim         link(2)-ed by the wrapper before anything else (or by a coordinator that voids N): Claim
//   token         0600: the bearer token of this attempt's reports
//   rank-K.log    stdout and stderr of rank K; wrapper.log of the wrapper and mpirun
//   status.json   by rank 0 every 30 s: protocol::Report
//   error-rank-K.json  by a rank that fails by itself (launcher/attempt/exit_reason.h)
//   command, environment, hosts  by start(), for people: what runs, in a form to copy and paste
//   exit.json     by the wrapper, atomically, last: ExitRecord. Decides how the attempt ended.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/process.h"

namespace cosub::launcher {

struct LaunchSpec {
  std::string uuid;
  std::int64_t attempt = 0;
  std::filesystem::path attempt_folder;  // absolute, exists
  std::vector<std::string> worker_argv;  // absolute program, its arguments
  std::int64_t ranks = 1;
  std::vector<std::string> hosts;  // name[:slots]; empty: this machine
  std::map<std::string, std::string> environment;
  std::chrono::milliseconds grace{60000};
  std::vector<std::string> launcher_flags;  // only from the coordinator's own configuration
};

struct Claim {
  std::string owner;  // "wrapper", or "coordinator" where it voids the attempt
  std::string host;
  std::string boot_id;
  ProcessId process;
};

struct ExitRecord {
  int exit_code = 0;          // the job's, as design's "Ways out"; 128 + signal for a death
  std::string reason;         // "rank 2 on node3 killed by signal 9 (SIGKILL)", "complete", ...
  int failed_rank = -1;       // first rank that failed, where known
  bool from_outside = false;  // a signal, a lost host: not the worker's own error
  std::int64_t step = -1;     // last step reported in status.json; -1 unknown
  double seconds = 0;
};

enum class Liveness { kRunning, kGone, kUnknown };

class Backend {
 public:
  virtual ~Backend() = default;

  /// What would run, for --dry-run and the attempt's `command` file.
  virtual std::vector<std::string> command(const LaunchSpec& spec) const = 0;
  /// Why this backend cannot start anything here ("mpirun not found in PATH: install openmpi-bin"); nullopt
  /// if it can.
  virtual std::optional<std::string> unavailable() const = 0;
  /// Writes launch.json and starts the wrapper. Returns its identity.
  virtual ProcessId start(const LaunchSpec& spec) = 0;
  /// The wrapper of an attempt, by its claim and else by its UUID in the process table.
  /// kUnknown: claimed on another host. kGone also where a coordinator voided it, or after a reboot.
  virtual Liveness probe(const std::filesystem::path& attempt_folder, const std::string& uuid) const = 0;
  /// Asks the wrapper to checkpoint and stop (TERM), or to end at once (`now`: QUIT). False when it is gone.
  virtual bool stop(const std::filesystem::path& attempt_folder, bool now) = 0;
  /// Kills (SIGKILL) whatever still carries the UUID; true when nothing is left.
  virtual bool kill_leftovers(const std::string& uuid) = 0;
};

std::unique_ptr<Backend> make_backend(const std::string& name);  // "mpirun"; ConfigError for others

/// Takes the claim for the caller; false when somebody has it.
bool take_claim(const std::filesystem::path& attempt_folder, const Claim& claim);
std::optional<Claim> read_claim(const std::filesystem::path& attempt_folder);
std::optional<ExitRecord> read_exit(const std::filesystem::path& attempt_folder);
void write_exit(const std::filesystem::path& attempt_folder, const ExitRecord& record);
void write_launch(const LaunchSpec& spec);
LaunchSpec read_launch(const std::filesystem::path& attempt_folder);

}  // namespace cosub::launcher
