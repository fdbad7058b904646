// The backend for one machine, or hosts reachable by mpirun's own agent (ssh): one wrapper per attempt on
// this host.
#pragma once

#include "launcher/backends/backend.h"

namespace cosub::launcher {

class MpirunBackend : public Backend {
 public:
  /// `wrapper` is the cosub-attempt to start; empty: the one beside the running program.
  explicit MpirunBackend(std::filesystem::path wrapper = {});

  std::vector<std::string> command(const LaunchSpec& spec) const override;
  std::optional<std::string> unavailable() const override;
  ProcessId start(const LaunchSpec& spec) override;
  Liveness probe(const std::filesystem::path& attempt_folder, const std::string& uuid) const override;
  bool stop(const std::filesystem::path& attempt_folder, bool now) override;
  bool kill_leftovers(const std::string& uuid) override;

 private:
  std::filesystem::path wrapper_;
};

/// SIGKILLs every other process that carries the UUID; once, without waiting. Returns those it found.
std::vector<ProcessId> kill_processes_of_attempt(const std::string& uuid);

}  // namespace cosub::launcher
