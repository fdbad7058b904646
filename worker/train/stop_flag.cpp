#include "worker/train/stop_flag.h"

#include <atomic>
#include <csignal>

namespace cosub::train {
namespace {

std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only use lock-free atomics");

void on_signal(int) {
  g_stop.store(true, std::memory_order_relaxed);
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGUSR1, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error that names its file, not a death
}

void request_stop() {
  on_signal(0);
}
bool stop_requested() {
  return g_stop.load(std::memory_order_relaxed);
}
void clear_stop() {
  g_stop.store(false, std::memory_order_relaxed);
}

}  // namespace cosub::train
