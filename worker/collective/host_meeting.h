// How ranks that share memory tell each other that they have come: a semaphore for each ordered pair of them.
// Who waits sleeps in the kernel until it is woken. MPI would have to be asked again and again, which takes a
// few per cent of a core, often of the very one that the rank waited for computes on.
#pragma once

#include <mpi.h>
#include <semaphore.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

namespace cosub::collective {

class HostMeeting {
 public:
  /// Collective over `ranks`, which share memory and are two at least; not used after the call. `rank`: the
  /// number by which meet() names this rank. Needs as much time as the slowest rank.
  HostMeeting(MPI_Comm ranks, std::int64_t rank);
  HostMeeting(const HostMeeting&) = delete;
  HostMeeting& operator=(const HostMeeting&) = delete;

  /// Collective: gives the memory back, which the destructor does not, since it cannot know whether the
  /// others will come.
  void free();

  bool has(std::int64_t rank) const;
  /// Returns once all have called it as often as this rank. The ranks that had not when `limit` passed or
  /// `cancelled` was set; then it must not be called again.
  std::vector<std::int64_t> meet(std::chrono::milliseconds limit, const std::atomic<bool>& cancelled);

 private:
  struct Peer {
    std::int64_t rank;
    sem_t* to;    // posted by this rank
    sem_t* from;  // posted by the peer
  };

  MPI_Win memory_ = MPI_WIN_NULL;
  std::vector<Peer> peers_;
};

}  // namespace cosub::collective
