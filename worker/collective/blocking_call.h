// A limit for calls of MPI that block: they wait for other ranks, cannot be asked how far they are, and
// cannot be left.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace cosub::collective {

/// For the scope around the call. When `limit` passes first, the log says what was waited for and the process
/// leaves with ExitCode::kFailure, without destructors: the launcher then ends the other ranks.
class BlockingCall {
 public:
  /// `what`: the call and what it waits for, as in "MPI_Finalize, for the other ranks".
  BlockingCall(std::string what, std::chrono::milliseconds limit);
  ~BlockingCall();
  BlockingCall(const BlockingCall&) = delete;
  BlockingCall& operator=(const BlockingCall&) = delete;

 private:
  void watch(std::chrono::milliseconds limit);

  std::string what_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace cosub::collective
