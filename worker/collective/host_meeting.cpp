#include "worker/collective/host_meeting.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "worker/collective/check_mpi.h"

namespace cosub::collective {
namespace {

// How late a wait finds out that it was cancelled.
constexpr std::chrono::milliseconds kLongestSleep(100);

void check(int result, const char* call) {
  if (result != 0) throw std::system_error(errno, std::generic_category(), call);
}

/// Whether it was posted before `end`.
bool wait_until(sem_t* semaphore, std::chrono::steady_clock::time_point end) {
  const auto since = end.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  const timespec time = {.tv_sec = seconds.count(),
                         .tv_nsec = std::chrono::nanoseconds(since - seconds).count()};
  while (sem_clockwait(semaphore, CLOCK_MONOTONIC, &time) != 0) {
    if (errno == ETIMEDOUT) return false;
    if (errno != EINTR) check(-1, "sem_clockwait");
  }
  return true;
}

}  // namespace

// Each rank keeps in its part of the memory the semaphores that the others post for it.
HostMeeting::HostMeeting(MPI_Comm ranks, std::int64_t rank) {
  int own = 0, size = 0;
  check_mpi(MPI_Comm_rank(ranks, &own));
  check_mpi(MPI_Comm_size(ranks, &size));
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(size));
  check_mpi(MPI_Allgather(&rank, 1, MPI_INT64_T, numbers.data(), 1, MPI_INT64_T, ranks));
  sem_t* semaphores = nullptr;
  const auto bytes = static_cast<MPI_Aint>(numbers.size() * sizeof(sem_t));
  check_mpi(
      MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, ranks, static_cast<void*>(&semaphores), &memory_));
  for (int i = 0; i < size; ++i) check(sem_init(semaphores + i, /*pshared=*/1, 0), "sem_init");
  check_mpi(MPI_Barrier(ranks));  // nobody posts before that
  for (int i = 0; i < size; ++i) {
    if (i == own) continue;
    MPI_Aint their_bytes = 0;
    int unit = 0;
    sem_t* theirs = nullptr;
    check_mpi(MPI_Win_shared_query(memory_, i, &their_bytes, &unit, static_cast<void*>(&theirs)));
    peers_.push_back({numbers[static_cast<std::size_t>(i)], theirs + own, semaphores + i});
  }
}

void HostMeeting::free() {
  peers_.clear();
  check_mpi(MPI_Win_free(&memory_));
}

bool HostMeeting::has(std::int64_t rank) const {
  return std::any_of(peers_.begin(), peers_.end(), [&](const Peer& peer) { return peer.rank == rank; });
}

std::vector<std::int64_t> HostMeeting::meet(std::chrono::milliseconds limit,
                                            const std::atomic<bool>& cancelled) {
  using Clock = std::chrono::steady_clock;
  for (const Peer& peer : peers_) check(sem_post(peer.to), "sem_post");
  const auto deadline = Clock::now() + limit;
  std::vector<std::int64_t> missing;
  for (const Peer& peer : peers_) {
    bool came = sem_trywait(peer.from) == 0;
    for (auto now = Clock::now(); !came && !cancelled && now < deadline; now = Clock::now())
      came = wait_until(peer.from, std::min<Clock::time_point>(deadline, now + kLongestSleep));
    if (!came) missing.push_back(peer.rank);
  }
  return missing;
}

}  // namespace cosub::collective
