// Where this rank is, written by the threads that work (one relaxed store each) and read by the side
// channel's.
#pragma once

#include <atomic>
#include <cstdint>

#include "worker/collective/side_channel/board_keeper.h"

namespace cosub::collective {

class PlaceCell {
 public:
  /// The training thread. Bucket and milestone are not taken: exchanging() says the one, and the other grows
  /// by itself with every new step, with every change of phase but those between load, forward and backward,
  /// and when an evaluation comes to 100 %. Every rank must go through the same ones.
  void at(const Place& place);
  /// Any thread; buckets count from 0.
  void exchanging(std::int64_t step, std::int64_t bucket, std::int64_t num_buckets);
  /// Any thread. A bucket is told with the step that it belongs to, until the step's update.
  Place get() const;

 private:
  Place last_;                                              // the training thread's
  std::atomic<std::int64_t> milestone_{0};                  // last_.milestone
  std::atomic<std::uint64_t> place_{0};                     // step 40 bits | phase 4 | microbatch + 1 20
  std::atomic<std::uint64_t> exchange_{~std::uint64_t{0}};  // step 32 bits | bucket 16 | num_buckets 16
};

/// Reads a cell every period and notes for how long it has shown the same. One thread.
class PlaceWatch {
 public:
  explicit PlaceWatch(const PlaceCell& cell) : cell_(cell) {}
  PlaceReport look(SideTime now);

 private:
  const PlaceCell& cell_;
  Place last_;
  SideTime since_{};
};

}  // namespace cosub::collective
