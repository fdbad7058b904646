#include "worker/collective/mpi_communicator.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <set>
#include <stdexcept>

#include "common/error.h"
#include "worker/collective/blocking_call.h"
#include "worker/collective/check_mpi.h"
#include "worker/collective/poll.h"
#include "worker/collective/tensor_checks.h"
#include "worker/collective/wait_error.h"

namespace cosub::collective {
namespace {

constexpr int kTag = 1;

MPI_Datatype mpi_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kLong:
      return MPI_INT64_T;
    case at::kByte:
      return MPI_UINT8_T;
    default:
      throw std::logic_error("no MPI type for this dtype");
  }
}

/// Calls piece(first byte, number of elements) for pieces of at most `max_count` elements.
template <typename Piece>
void for_each_piece(const at::Tensor& tensor, std::int64_t max_count, Piece&& piece) {
  auto* bytes = static_cast<char*>(tensor.data_ptr());
  const auto size = tensor.numel();
  for (std::int64_t first = 0; first < size; first += max_count) {
    piece(bytes + first * tensor.element_size(), static_cast<int>(std::min(max_count, size - first)));
  }
}

// By default Open MPI sends the bulk of a message over TCP once the receiver has asked for it. Two ranks that
// exchange then send in turns, since the one's request queues behind the other's bulk. As plain fragments
// both directions go at once. What mpirun was told wins.
void let_both_directions_flow() {
  if (setenv("OMPI_MCA_btl_tcp_flags", "send,inplace", /*overwrite=*/0) != 0)
    spdlog::warn("OMPI_MCA_btl_tcp_flags: not set ({})", std::strerror(errno));
}

// Memory that MPI may still write to after a failed operation. Never freed: the process is about to end.
void keep_for_ever(std::vector<at::Tensor> buffers) {
  static auto* kept = new std::vector<at::Tensor>;
  kept->insert(kept->end(), buffers.begin(), buffers.end());
}

}  // namespace

MpiCommunicator::MpiCommunicator(std::chrono::milliseconds limit, Options options)
    : options_(options), exceptions_at_start_(std::uncaught_exceptions()) {
  set_limit(limit);
  int initialised = 0;
  check_mpi(MPI_Initialized(&initialised));
  if (!initialised) {
    let_both_directions_flow();
    int provided = MPI_THREAD_SINGLE;
    int result = MPI_SUCCESS;
    {
      const BlockingCall limited("MPI_Init_thread, for the job's other ranks", limit);
      result = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
    }
    if (result != MPI_SUCCESS || provided < MPI_THREAD_SERIALIZED) {
      throw CollectiveError(
          fmt::format("MPI did not initialise (result {}, thread level {}, needed {}). Start the worker with "
                      "the mpirun of the "
                      "MPI it was built with, or srun --mpi=pmix",
                      result, provided, static_cast<int>(MPI_THREAD_SERIALIZED)));
    }
    finalises_ = true;
  }
  int level = MPI_THREAD_SINGLE;
  check_mpi(MPI_Query_thread(&level));
  concurrent_ = level == MPI_THREAD_MULTIPLE;
  connect_world();
  local_rank_ = join_host();
}

void MpiCommunicator::connect_world() {
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  int rank = 0, size = 1, length = 0;
  char host[MPI_MAX_PROCESSOR_NAME + 1] = {};
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size));
  check_mpi(MPI_Get_processor_name(host, &length));
  rank_ = rank;
  world_size_ = size;
  host_ = host;
  job_size_ = size;
  job_ranks_.resize(static_cast<std::size_t>(size));
  std::iota(job_ranks_.begin(), job_ranks_.end(), std::int64_t{0});
  const std::string what;
  const Operation operation{"connect", what};
  start(operation, {});
  std::vector<Pending> pending(1);
  check_mpi(MPI_Comm_idup(MPI_COMM_WORLD, &comm_, &pending[0].request));
  complete(operation, pending);
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
}

std::int64_t MpiCommunicator::join_host() {
  const BlockingCall limited(own_name() + " in MPI_Comm_split_type or MPI_Allreduce, for the other ranks",
                             limit());
  MPI_Comm host = MPI_COMM_NULL, sharing = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, static_cast<int>(rank_), MPI_INFO_NULL, &host));
  int local = 0, size = 0;
  check_mpi(MPI_Comm_rank(host, &local));
  check_mpi(MPI_Comm_split(host, local / options_.max_sharing, local, &sharing));
  check_mpi(MPI_Comm_size(sharing, &size));
  if (size > 1) host_meeting_ = HostMeeting::make(sharing, rank_);
  check_mpi(MPI_Comm_free(&sharing));
  check_mpi(MPI_Comm_free(&host));
  return local;
}

MpiCommunicator::MpiCommunicator(const MpiCommunicator& whole, MPI_Comm part,
                                 std::vector<std::int64_t> job_ranks)
    : options_(whole.options_),
      concurrent_(whole.concurrent_),
      exceptions_at_start_(std::uncaught_exceptions()),
      comm_(part),
      world_size_(static_cast<std::int64_t>(job_ranks.size())),
      local_rank_(whole.local_rank_),
      host_(whole.host_),
      job_ranks_(std::move(job_ranks)),
      job_size_(whole.job_size_) {
  set_limit(whole.limit());
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  int rank = 0;
  check_mpi(MPI_Comm_rank(comm_, &rank));
  rank_ = rank;
  join_host();
}

MpiCommunicator::~MpiCommunicator() {
  if (broken_ || std::uncaught_exceptions() > exceptions_at_start_) {
    // MPI_Finalize would wait for ranks that wait for us. Exiting without it makes mpirun end the job.
    keep_for_ever(std::move(buffers_));
    return;
  }
  try {
    if (finalises_) barrier("the end of the job");
    const BlockingCall limited(own_name() + " in MPI_Comm_free and MPI_Finalize, for the other ranks",
                               limit());
    check_mpi(MPI_Comm_free(&comm_));
    if (finalises_) check_mpi(MPI_Finalize());
  } catch (const CollectiveError& error) {
    spdlog::error("{}", error.what());
  }
}

std::string MpiCommunicator::own_name() const {
  return describe_rank(job_ranks_[static_cast<std::size_t>(rank_)], job_size_, host_);
}

void MpiCommunicator::start(const Operation& operation, std::vector<at::Tensor> buffers) {
  if (broken_) {
    throw CollectiveError(fmt::format("{} cannot do {}: an earlier operation failed", own_name(),
                                      describe_operation(operation.name, operation.what)));
  }
  broken_ = true;
  buffers_ = std::move(buffers);
}

void MpiCommunicator::complete(const Operation& operation, std::vector<Pending>& pending, Pace pace,
                               WaitLimit wait_limit) {
  // Any MPI_Test moves all requests on, so it is enough to ask for the first that is not done.
  std::size_t next = 0;
  const auto done = [&] {
    for (; next < pending.size(); ++next) {
      int finished = 0;
      check_mpi(MPI_Test(&pending[next].request, &finished, MPI_STATUS_IGNORE));
      if (!finished) return false;
    }
    return true;
  };
  if (!poll_until(done, wait_limit, cancelled(), pace)) fail_late(operation, pending, wait_limit);
  broken_ = false;
  buffers_.clear();
}

void MpiCommunicator::fail_late(const Operation& operation, std::vector<Pending>& pending,
                                const WaitLimit& wait_limit, const std::vector<std::int64_t>& missing_here) {
  std::set<std::int64_t> missing;
  for (const auto rank : missing_here) missing.insert(job_ranks_[static_cast<std::size_t>(rank)]);
  std::int64_t bucket = -1;
  bool everyone = false;
  for (auto& [request, peer, index] : pending) {
    int finished = 0;
    check_mpi(MPI_Test(&request, &finished, MPI_STATUS_IGNORE));
    if (finished) continue;
    if (bucket < 0) bucket = index;
    if (peer >= 0) missing.insert(job_ranks_[static_cast<std::size_t>(peer)]);
    everyone = everyone || peer < 0;
  }
  auto what = operation.what;
  if (bucket >= 0) {
    what += fmt::format("{}bucket {} of {}", what.empty() ? "" : ", ", bucket + 1, operation.num_buckets);
  }
  const bool named = !everyone && !missing.empty();
  throw WaitLimitError(own_name(), wait_limit.waited(),
                       named ? list_ranks({missing.begin(), missing.end()}) : "the other ranks",
                       describe_operation(operation.name, what));
}

void MpiCommunicator::start_all_reduce(at::Tensor& tensor, std::int64_t bucket,
                                       std::vector<Pending>& pending) {
  const auto type = mpi_type(tensor.scalar_type());
  for_each_piece(tensor, options_.max_count, [&](char* first, int count) {
    auto& added = pending.emplace_back();
    added.bucket = bucket;
    check_mpi(MPI_Iallreduce(MPI_IN_PLACE, first, count, type, MPI_SUM, comm_, &added.request));
  });
}

void MpiCommunicator::start_send(const at::Tensor& tensor, std::int64_t peer, std::vector<Pending>& pending) {
  const auto type = mpi_type(tensor.scalar_type());
  for_each_piece(tensor, options_.max_count, [&](const char* first, int count) {
    auto& added = pending.emplace_back();
    added.peer = peer;
    check_mpi(MPI_Isend(first, count, type, static_cast<int>(peer), kTag, comm_, &added.request));
  });
}

void MpiCommunicator::start_receive(at::Tensor& tensor, std::int64_t peer, std::vector<Pending>& pending) {
  const auto type = mpi_type(tensor.scalar_type());
  for_each_piece(tensor, options_.max_count, [&](char* first, int count) {
    auto& added = pending.emplace_back();
    added.peer = peer;
    check_mpi(MPI_Irecv(first, count, type, static_cast<int>(peer), kTag, comm_, &added.request));
  });
}

void MpiCommunicator::all_reduce_sum(at::Tensor& tensor, const std::string& what) {
  const Operation operation{"all_reduce_sum", what};
  check_tensor(tensor, at::kCPU, operation.name);
  start(operation, {tensor});
  std::vector<Pending> pending;
  if (world_size_ > 1) start_all_reduce(tensor, -1, pending);
  complete(operation, pending);
}

void MpiCommunicator::all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) {
  const auto num_buckets = static_cast<std::int64_t>(buckets.size());
  const Operation operation{"all_reduce_sum", what, num_buckets};
  for (const auto& bucket : buckets) check_tensor(bucket, at::kCPU, operation.name);
  start(operation, buckets);
  std::vector<Pending> pending;
  for (std::int64_t i = 0; world_size_ > 1 && i < num_buckets; ++i) start_all_reduce(buckets[i], i, pending);
  complete(operation, pending);
}

void MpiCommunicator::broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) {
  const Operation operation{"broadcast", what};
  check_tensor(tensor, at::kCPU, operation.name);
  start(operation, {tensor});
  std::vector<Pending> pending;
  const auto type = mpi_type(tensor.scalar_type());
  for_each_piece(tensor, options_.max_count, [&](char* first, int count) {
    check_mpi(MPI_Ibcast(first, count, type, static_cast<int>(root), comm_, &pending.emplace_back().request));
  });
  complete(operation, pending);
}

// Point to point rather than MPI_Ialltoallv and MPI_Iallgatherv: these count in int offsets, and a wait for
// one peer can be named. Rank r starts with its neighbours, so that not everybody sends to rank 0 first.
void MpiCommunicator::all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                                 const std::string& what) {
  const Operation operation{"all_to_all", what};
  check_tensors(send, world_size_, at::kCPU, operation.name);
  check_tensors(recv, world_size_, at::kCPU, operation.name);
  copy_own(send[rank_], recv[rank_]);
  auto buffers = send;
  buffers.insert(buffers.end(), recv.begin(), recv.end());
  start(operation, std::move(buffers));
  std::vector<Pending> pending;
  for (std::int64_t i = 1; i < world_size_; ++i) {
    const auto from = (rank_ - i + world_size_) % world_size_;
    start_receive(recv[from], from, pending);
  }
  for (std::int64_t i = 1; i < world_size_; ++i) {
    const auto to = (rank_ + i) % world_size_;
    start_send(send[to], to, pending);
  }
  complete(operation, pending);
}

void MpiCommunicator::all_gather(const at::Tensor& mine, std::vector<at::Tensor>& all,
                                 const std::string& what) {
  const Operation operation{"all_gather", what};
  check_tensor(mine, at::kCPU, operation.name);
  check_tensors(all, world_size_, at::kCPU, operation.name);
  copy_own(mine, all[rank_]);
  auto buffers = all;
  buffers.push_back(mine);
  start(operation, std::move(buffers));
  std::vector<Pending> pending;
  for (std::int64_t i = 1; i < world_size_; ++i) {
    const auto from = (rank_ - i + world_size_) % world_size_;
    start_receive(all[from], from, pending);
  }
  for (std::int64_t i = 1; i < world_size_; ++i) start_send(mine, (rank_ + i) % world_size_, pending);
  complete(operation, pending);
}

std::vector<std::string> MpiCommunicator::all_gather_text(const std::string& mine, const std::string& what) {
  const auto size = at::full({1}, static_cast<std::int64_t>(mine.size()), at::kLong);
  std::vector<at::Tensor> sizes, bytes;
  for (std::int64_t r = 0; r < world_size_; ++r) sizes.push_back(at::empty({1}, at::kLong));
  all_gather(size, sizes, what);
  for (const auto& length : sizes) bytes.push_back(at::empty({length.item<std::int64_t>()}, at::kByte));
  auto own = at::empty({static_cast<std::int64_t>(mine.size())}, at::kByte);
  if (!mine.empty()) std::memcpy(own.data_ptr(), mine.data(), mine.size());
  all_gather(own, bytes, what);
  std::vector<std::string> texts;
  for (const auto& text : bytes) {
    texts.emplace_back(static_cast<const char*>(text.data_ptr()), static_cast<std::size_t>(text.numel()));
  }
  return texts;
}

void MpiCommunicator::barrier(const std::string& what) {
  const Operation operation{"barrier", what};
  start(operation, {});
  std::vector<Pending> pending(1);
  check_mpi(MPI_Ibarrier(comm_, &pending[0].request));
  complete(operation, pending);
}

// First those of this host, for whom waiting costs nothing, then the others, by messages.
void MpiCommunicator::meet(const std::string& what, const std::function<bool()>& goes_on) {
  const Operation operation{"meet", what};
  start(operation, {});
  WaitLimit wait_limit(limit(), goes_on);
  const auto is_elsewhere = [&](std::int64_t rank) { return !host_meeting_ || !host_meeting_->has(rank); };
  std::vector<Pending> pending;
  for (std::int64_t i = 1; i < world_size_; ++i) {
    const auto from = (rank_ - i + world_size_) % world_size_, to = (rank_ + i) % world_size_;
    if (is_elsewhere(from)) {
      auto& receive = pending.emplace_back();
      receive.peer = from;
      check_mpi(MPI_Irecv(nullptr, 0, MPI_BYTE, static_cast<int>(from), kTag, comm_, &receive.request));
    }
    if (is_elsewhere(to)) {
      auto& send = pending.emplace_back();
      send.peer = to;
      check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, static_cast<int>(to), kTag, comm_, &send.request));
    }
  }
  if (host_meeting_) {
    const auto missing = host_meeting_->meet(wait_limit, cancelled());
    if (!missing.empty()) fail_late(operation, pending, wait_limit, missing);
  }
  complete(operation, pending, Pace::kWaiting, wait_limit);
}

std::unique_ptr<Communicator> MpiCommunicator::split(std::int64_t color, const std::string& what) {
  std::vector<at::Tensor> colors;
  for (std::int64_t r = 0; r < world_size_; ++r) colors.push_back(at::empty({1}, at::kLong));
  // MPI_Comm_split blocks without a limit: it starts when everybody has come.
  all_gather(at::full({1}, color, at::kLong), colors, what);
  std::vector<std::int64_t> job_ranks;
  for (std::size_t r = 0; r < colors.size(); ++r) {
    if (colors[r].item<std::int64_t>() == color) job_ranks.push_back(job_ranks_[r]);
  }
  MPI_Comm part = MPI_COMM_NULL;
  const BlockingCall limited(own_name() + " in MPI_Comm_split, for the other ranks", limit());
  check_mpi(MPI_Comm_split(comm_, static_cast<int>(color), static_cast<int>(rank_), &part));
  return std::unique_ptr<Communicator>(new MpiCommunicator(*this, part, std::move(job_ranks)));
}

void MpiCommunicator::abort(int exit_code) {
  const int result = MPI_Abort(comm_, exit_code);
  spdlog::error("MPI_Abort came back with {}; leaving with {}", result, exit_code);
  std::_Exit(exit_code);
}

}  // namespace cosub::collective
