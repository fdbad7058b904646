// How this folder waits for MPI and NCCL: ask, first in quick succession, then with short sleeps, until done
// or out of time. MPI and NCCL make progress (or show their errors) only when asked, and a rank that spins
// takes the core that another one computes on. While data move, each late question delays them; until the
// others have come, only the end of the wait is late.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

namespace cosub::collective {

/// What a wait is for: data that move, or others on other hosts that have not come yet.
enum class Pace { kMoving, kWaiting };

/// Calls done() until it returns true; false when it is `deadline` on the monotonic clock, or `cancelled` is
/// set.
template <typename Done>
bool poll_until(Done&& done, std::chrono::steady_clock::time_point deadline,
                const std::atomic<bool>& cancelled, Pace pace = Pace::kMoving) {
  constexpr int kSpins = 32;
  constexpr std::chrono::microseconds kShortestSleep(50);
  const std::chrono::microseconds longest_sleep(pace == Pace::kMoving ? 200 : 1000);
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done()) return true;
  }
  for (auto sleep = kShortestSleep; !cancelled && std::chrono::steady_clock::now() < deadline;
       sleep = std::min(sleep * 5 / 4, longest_sleep)) {
    std::this_thread::sleep_for(sleep);
    if (done()) return true;
  }
  return false;
}

template <typename Done>
bool poll_until(Done&& done, std::chrono::milliseconds limit, const std::atomic<bool>& cancelled) {
  return poll_until(std::forward<Done>(done), std::chrono::steady_clock::now() + limit, cancelled);
}

}  // namespace cosub::collective
