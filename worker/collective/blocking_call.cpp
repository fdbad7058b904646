#include "worker/collective/blocking_call.h"

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <utility>

#include "common/exit_code.h"

namespace cosub::collective {

BlockingCall::BlockingCall(std::string what, std::chrono::milliseconds limit)
    : what_(std::move(what)), thread_([this, limit] { watch(limit); }) {}

BlockingCall::~BlockingCall() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BlockingCall::watch(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, limit, [this] { return done_; })) return;
  spdlog::error(
      "waited {} ms in {}: not every rank came. A rank that stopped, or a host or network that is gone, does "
      "that; "
      "this rank leaves, and the launcher ends the job",
      limit.count(), what_);
  spdlog::shutdown();  // writes what is buffered
  std::_Exit(static_cast<int>(ExitCode::kFailure));
}

}  // namespace cosub::collective
