// Beside the collectives, each rank holds one TCP connection to rank 0 and says every period, from a thread
// of its own, where it is; rank 0 sends everybody the board of all. So a wait that passes its limit can say
// who is stopped, gone or behind, rank 0 included, on whatever the tensors travel (MPI, NCCL). Owned by the
// stage's runner. It never fails the job: what breaks is connected again and logged once. One rank: nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "common/error.h"
#include "worker/collective/communicator.h"
#include "worker/collective/side_channel/board.h"
#include "worker/collective/side_channel/place_cell.h"

namespace cosub::collective {

struct SideChannelOptions {
  /// Where rank 0 listens, a numeric address; empty: loopback where all ranks are on one host, else every
  /// IPv4 address of rank 0's host.
  std::string advertise = {};
  std::chrono::milliseconds period{1000};
};

class SideChannel {
 public:
  /// Collective. CollectiveError only where the communicator itself throws it.
  SideChannel(Communicator& communicator, const SideChannelOptions& options);
  ~SideChannel();  // at once
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;

  /// The training thread; two atomic stores. See PlaceCell::at.
  void at(const Place& place) { cell_.at(place); }
  /// Any thread; one atomic store. Buckets count from 0.
  void exchanging(std::int64_t step, std::int64_t bucket, std::int64_t num_buckets) {
    cell_.exchanging(step, bucket, num_buckets);
  }

  /// Any thread; does not block.
  Board board() const;
  /// The message of an error, completed by who keeps the others waiting.
  std::string explain(const CollectiveError& error) const;

 private:
  struct Running;  // the thread and its sockets

  std::int64_t rank_;
  std::int64_t world_size_;
  PlaceCell cell_;
  std::unique_ptr<Running> running_;  // nullptr: one rank, or rank 0 could not listen
};

}  // namespace cosub::collective
