// The coordinator that `cosub run` brings along: started with a pipe whose other end only `cosub run` holds,
// so that it stops its jobs (with a checkpoint) and ends when `cosub run` is gone, however that happened. One
// thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>

#include "launcher/commands/connection.h"

namespace cosub::commands {

class PrivateCoordinator {
 public:
  /// Starts it and waits until it answers. IoError with the end of its log when it does not come up within 30
  /// s, or when another `cosub run` holds this run.
  explicit PrivateCoordinator(std::filesystem::path state_folder);
  /// Closes the pipe; waits at most `limit` for it to end.
  ~PrivateCoordinator();
  PrivateCoordinator(const PrivateCoordinator&) = delete;
  PrivateCoordinator& operator=(const PrivateCoordinator&) = delete;

  Connection& connection() { return *connection_; }
  bool alive() const;
  /// After a death: starts it again on the same state. At most 10 times within a minute, then IoError.
  void restart();

 private:
  void start();
  void wait_until_it_answers();
  std::string end_of_log() const;

  std::filesystem::path state_folder_;
  ProcessId process_;
  int pipe_write_end_ = -1;
  std::unique_ptr<Connection> connection_;
  std::vector<std::chrono::steady_clock::time_point> restarts_;
};

}  // namespace cosub::commands
