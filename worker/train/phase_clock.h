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

/// kReduce: what the exchange of gradients takes and the backward pass does not hide. kWait: until the
/// slowest rank had come to it, where that is known (StepReduction::take_wait_for_ranks); elsewhere it is in
/// kReduce.
enum class Phase { kLoad, kForward, kBackward, kReduce, kWait, kUpdate, kCheckpoint };
inline constexpr std::array<std::string_view, 7> kPhaseNames = {"load", "forward", "backward",  "reduce",
                                                                "wait", "update",  "checkpoint"};
using PhaseSeconds = std::array<double, kPhaseNames.size()>;

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
  /// So much of what was added to `from` is the other phase's.
  void move(Phase from, Phase to, std::chrono::duration<double> time) {
    seconds_[static_cast<std::size_t>(from)] -= time.count();
    seconds_[static_cast<std::size_t>(to)] += time.count();
  }
  void on_enter(std::function<void(Phase)> listener) { on_enter_ = std::move(listener); }
  /// Seconds since the last call, by phase.
  PhaseSeconds take() { return std::exchange(seconds_, {}); }

 private:
  PhaseSeconds seconds_{};
  std::function<void(Phase)> on_enter_;
};

}  // namespace cosub::train
