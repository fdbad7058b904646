// Which operation a GPU is in, and whether it takes too long over it: bookkeeping without CUDA. The stream
// itself writes a mark into host memory as it comes to an operation and as it leaves it; somebody looks at
// that memory from time to time. So time counts from when the GPU reached the operation, however long before
// it was queued, and a CUDA graph that replays it needs nobody on the host.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "worker/collective/wait_error.h"

namespace cosub::collective {

/// `what` with the step that it begins with ("step 3, bucket 1 of 5") brought up to date; as it is where it
/// begins otherwise.
std::string at_step(const std::string& what, std::int64_t step);

/// The operations of one communicator, which its GPU does one after the other. Thread-safe.
class Watch {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// What stands in the memory that the streams write.
  struct Seen {
    std::uint64_t mark = 0;  // begun() or ended() of the operation reached last; 0: none yet
    std::int64_t step = -1;  // that the GPU is in; -1: nobody tells
    bool operator==(const Seen&) const = default;
  };

  /// `who`: "rank 1 of 4 on node3".
  explicit Watch(std::string who) : who_(std::move(who)) {}

  /// -> its number. `replayed`: queued into a CUDA graph, so that its marks come again at each replay, in
  /// steps after the one that `what` names.
  std::uint64_t add(const std::string& operation, const std::string& what, bool replayed);
  static constexpr std::uint64_t begun(std::uint64_t number) { return 2 * number + 1; }
  static constexpr std::uint64_t ended(std::uint64_t number) { return 2 * number; }

  /// One look, at `now` (ascending). The error to report, where the operation under way has been seen for
  /// `limit` or the communicator is cancelled. Replays of a graph are told apart by their steps.
  std::optional<WaitLimitError> look(const Seen& seen, Time now, std::chrono::milliseconds limit,
                                     bool cancelled);
  /// "all_reduce_sum (step 12, bucket 3 of 5)": what was under way at the last look; "" when nothing was.
  std::string under_way() const;
  std::size_t num_known() const;

 private:
  struct Operation {
    std::string name, what;
  };
  struct UnderWay {
    Seen seen;
    Time since;
  };
  std::string describe(const Seen& seen) const;
  void forget_before(std::uint64_t number);

  const std::string who_;
  mutable std::mutex mutex_;
  std::uint64_t last_number_ = 0;                // guarded by mutex_, as all below
  std::map<std::uint64_t, Operation> queued_;    // that the GPU has not left, as far as is known
  std::map<std::uint64_t, Operation> replayed_;  // for good: their graphs may run at any time
  std::optional<UnderWay> under_way_;
};

/// What goes wrong in the background, until somebody asks. The first error is the one to report. Thread-safe.
class FirstError {
 public:
  void set(std::exception_ptr error);
  bool is_set() const;
  /// Throws it, each time.
  void check() const;

 private:
  mutable std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace cosub::collective
