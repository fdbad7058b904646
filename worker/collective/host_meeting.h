// How ranks that share memory tell each other that they have come: a semaphore for each ordered pair of them.
// Who waits sleeps in the kernel until it is woken. MPI would have to be asked again and again, which takes a
// few per cent of a core, often of the very one that the rank waited for computes on.
#pragma once

#include <mpi.h>
#include <semaphore.h>

#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "worker/collective/poll.h"

namespace cosub::collective {

class HostMeeting {
 public:
  /// Collective over `ranks`, of one host, which are not used after the call; waits for the slowest. `rank`:
  /// the number by which meet() names this one. Null on all where one of them cannot share memory (/dev/shm
  /// is full, or another container's), whose log says why.
  static std::unique_ptr<HostMeeting> make(MPI_Comm ranks, std::int64_t rank);

  bool has(std::int64_t rank) const;
  /// Returns once all have called it as often as this rank. The ranks that had not when `limit` passed or
  /// `cancelled` was set; then it must not be called again.
  std::vector<std::int64_t> meet(WaitLimit& limit, const std::atomic<bool>& cancelled);

 private:
  struct Peer {
    std::int64_t rank;
    sem_t* to;    // posted by this rank
    sem_t* from;  // posted by the peer
  };

  HostMeeting(boost::interprocess::mapped_region memory, const std::vector<std::int64_t>& ranks,
              std::size_t own);

  boost::interprocess::mapped_region memory_;
  std::vector<Peer> peers_;
};

}  // namespace cosub::collective
