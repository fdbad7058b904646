#include "worker/collective/host_meeting.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cerrno>
#include <exception>
#include <optional>
#include <random>
#include <system_error>
#include <utility>

#include "worker/collective/check_mpi.h"

namespace cosub::collective {
namespace {

namespace ipc = boost::interprocess;

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

using Name = std::array<char, 64>;  // of the memory, while not all ranks have it; "": there is none

// Other containers of the host may see the same folder and have the same process ids.
Name fresh_name() {
  Name name{};
  std::random_device random;
  fmt::format_to_n(name.data(), name.size() - 1, "/cosub-{:08x}{:08x}", random(), random());
  return name;
}

/// For each rank the semaphores that the others post for it.
ipc::mapped_region create(const Name& name, std::size_t num_ranks) {
  ipc::shared_memory_object memory(ipc::create_only, name.data(), ipc::read_write, ipc::permissions(0600));
  memory.truncate(static_cast<ipc::offset_t>(num_ranks * num_ranks * sizeof(sem_t)));
  ipc::mapped_region region(memory, ipc::read_write);
  auto* semaphores = static_cast<sem_t*>(region.get_address());
  for (std::size_t i = 0; i < num_ranks * num_ranks; ++i)
    check(sem_init(semaphores + i, /*pshared=*/1, 0), "sem_init");
  return region;
}

ipc::mapped_region open(const Name& name) {
  const ipc::shared_memory_object memory(ipc::open_only, name.data(), ipc::read_write);
  return ipc::mapped_region(memory, ipc::read_write);
}

void warn(std::int64_t rank, const std::exception& error) {
  spdlog::warn(
      "rank {} shares no memory with the others of its host ({}, in /dev/shm): waiting for them will cost "
      "processor time",
      rank, error.what());
}

}  // namespace

HostMeeting::HostMeeting(ipc::mapped_region memory, const std::vector<std::int64_t>& ranks, std::size_t own)
    : memory_(std::move(memory)) {
  auto* semaphores = static_cast<sem_t*>(memory_.get_address());
  const auto of = [&](std::size_t to, std::size_t from) { return semaphores + to * ranks.size() + from; };
  for (std::size_t i = 0; i < ranks.size(); ++i)
    if (i != own) peers_.push_back({ranks[i], of(i, own), of(own, i)});
}

std::unique_ptr<HostMeeting> HostMeeting::make(MPI_Comm ranks, std::int64_t rank) {
  int own = 0, size = 0;
  check_mpi(MPI_Comm_rank(ranks, &own));
  check_mpi(MPI_Comm_size(ranks, &size));
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(size));
  check_mpi(MPI_Allgather(&rank, 1, MPI_INT64_T, numbers.data(), 1, MPI_INT64_T, ranks));
  Name name{};
  std::optional<ipc::mapped_region> memory;
  try {
    if (own == 0) {
      name = fresh_name();
      memory = create(name, numbers.size());
    }
  } catch (const std::exception& error) {
    warn(rank, error);
    ipc::shared_memory_object::remove(name.data());
    name = {};
  }
  check_mpi(MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, ranks));
  try {
    if (own != 0 && name[0] != 0) memory = open(name);
  } catch (const std::exception& error) {
    warn(rank, error);
  }
  const int has_memory = memory ? 1 : 0;
  int all_have = 0;
  check_mpi(MPI_Allreduce(&has_memory, &all_have, 1, MPI_INT, MPI_MIN, ranks));
  if (own == 0 && name[0] != 0) ipc::shared_memory_object::remove(name.data());  // it lives on in who has it
  if (!all_have) return nullptr;
  return std::unique_ptr<HostMeeting>(
      new HostMeeting(std::move(*memory), numbers, static_cast<std::size_t>(own)));
}

bool HostMeeting::has(std::int64_t rank) const {
  return std::any_of(peers_.begin(), peers_.end(), [&](const Peer& peer) { return peer.rank == rank; });
}

std::vector<std::int64_t> HostMeeting::meet(WaitLimit& limit, const std::atomic<bool>& cancelled) {
  using Clock = std::chrono::steady_clock;
  for (const Peer& peer : peers_) check(sem_post(peer.to), "sem_post");
  std::vector<std::int64_t> missing;
  for (const Peer& peer : peers_) {
    bool came = sem_trywait(peer.from) == 0;
    while (!came && !cancelled && !limit.has_passed())
      came = wait_until(peer.from, std::min<Clock::time_point>(limit.end(), Clock::now() + kLongestSleep));
    if (!came) missing.push_back(peer.rank);
  }
  return missing;
}

}  // namespace cosub::collective
