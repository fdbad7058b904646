// How this folder waits for MPI and NCCL: ask, first in quick succession, then with short sleeps, until done
// or out of time. MPI and NCCL make progress (or show their errors) only when asked, and a rank that spins
// takes the core that another one computes on. While data move, each late question delays them; until the
// others have come, only the end of the wait is late.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

namespace cosub::collective {

/// What a wait is for: data that move, or others on other hosts that have not come yet.
enum class Pace { kMoving, kWaiting };

/// When a wait that begins now has lasted too long: after `limit`, or later, for as long as `goes_on` says
/// so, which is asked then and about every second from then on.
class WaitLimit {
 public:
  using Clock = std::chrono::steady_clock;
  explicit WaitLimit(std::chrono::milliseconds limit, std::function<bool()> goes_on = {})
      : limit_(limit), goes_on_(std::move(goes_on)), begin_(Clock::now()), end_(begin_ + limit) {}

  bool has_passed() {
    if (Clock::now() < end_) return false;
    if (!goes_on_ || !goes_on_()) return true;
    end_ = Clock::now() + std::chrono::seconds(1);
    return false;
  }
  Clock::time_point end() const { return end_; }  // as far as is known
  /// For errors: the limit, or the seconds that it was exceeded to.
  std::chrono::milliseconds waited() const {
    return std::max(limit_,
                    std::chrono::milliseconds(std::chrono::floor<std::chrono::seconds>(end_ - begin_)));
  }

 private:
  std::chrono::milliseconds limit_;
  std::function<bool()> goes_on_;
  Clock::time_point begin_, end_;
};

/// Calls done() until it returns true; false when the limit has passed, or `cancelled` is set.
template <typename Done>
bool poll_until(Done&& done, WaitLimit& limit, const std::atomic<bool>& cancelled,
                Pace pace = Pace::kMoving) {
  constexpr int kSpins = 32;
  constexpr std::chrono::microseconds kShortestSleep(50);
  const std::chrono::microseconds longest_sleep(pace == Pace::kMoving ? 200 : 1000);
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done()) return true;
  }
  for (auto sleep = kShortestSleep; !cancelled && !limit.has_passed();
       sleep = std::min(sleep * 5 / 4, longest_sleep)) {
    std::this_thread::sleep_for(sleep);
    if (done()) return true;
  }
  return false;
}

template <typename Done>
bool poll_until(Done&& done, std::chrono::milliseconds limit, const std::atomic<bool>& cancelled) {
  WaitLimit wait_limit(limit);
  return poll_until(std::forward<Done>(done), wait_limit, cancelled);
}

}  // namespace cosub::collective
