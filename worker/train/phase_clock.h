// Where a rank's time goes: seconds by phase, added up by the training thread and read by it after each step,
// which may also be told as it enters one.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string_view>
#include <utility>

namespace cosub::train {

enum class Phase { kLoad, kForward, kBackward, kReduce, kUpdate, kCheckpoint };
inline constexpr std::array<std::string_view, 6> kPhaseNames = {"load",   "forward", "backward",
                                                                "reduce", "update",  "checkpoint"};

class PhaseClock {
 public:
  /// Runs `work`, adds its time to the phase, and returns what it returned.
  template <class Work>
  auto timed(Phase phase, Work&& work) {
    if (on_enter_) on_enter_(phase);
    struct Timer {
      double& seconds;
      std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
      ~Timer() { seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }
    } timer{seconds_[static_cast<std::size_t>(phase)]};
    return std::invoke(work);
  }
  void on_enter(std::function<void(Phase)> listener) { on_enter_ = std::move(listener); }
  /// Seconds since the last call, by phase.
  std::array<double, 6> take() { return std::exchange(seconds_, {}); }

 private:
  std::array<double, 6> seconds_{};
  std::function<void(Phase)> on_enter_;
};

}  // namespace cosub::train
