// Communicator over MPI, for CPU tensors. Every operation starts nonblocking calls on a communicator of its
// own and asks for their completion until the limit passes: MPI makes no progress by itself, and a blocking
// call would neither name who is missing nor ever end. Sizes beyond what an int counts are sent in pieces.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "worker/collective/communicator.h"
#include "worker/collective/host_meeting.h"
#include "worker/collective/poll.h"

namespace cosub::collective {

class MpiCommunicator final : public Communicator {
 public:
  /// Both are smaller in tests.
  struct Options {
    std::int64_t max_count = std::int64_t{1} << 30;     // elements that go into one MPI call
    int max_sharing = std::numeric_limits<int>::max();  // ranks of a host that meet in shared memory
  };

  /// Collective. Initialises MPI where nobody did (and then finalises it in the destructor); duplicates
  /// MPI_COMM_WORLD. `limit` holds for that, too.
  MpiCommunicator(std::chrono::milliseconds limit, Options options);
  explicit MpiCommunicator(std::chrono::milliseconds limit) : MpiCommunicator(limit, Options()) {}
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  std::int64_t rank() const override { return rank_; }
  std::int64_t world_size() const override { return world_size_; }
  std::int64_t local_rank() const override { return local_rank_; }
  std::string name() const override { return "mpi"; }

  void all_reduce_sum(at::Tensor& tensor, const std::string& what) override;
  void all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) override;
  void broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) override;
  void all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                  const std::string& what) override;
  void all_gather(const at::Tensor& mine, std::vector<at::Tensor>& all, const std::string& what) override;
  std::vector<std::string> all_gather_text(const std::string& mine, const std::string& what) override;
  void barrier(const std::string& what) override;
  void meet(const std::string& what, const std::function<bool()>& goes_on) override;
  std::unique_ptr<Communicator> split(std::int64_t color, const std::string& what) override;
  bool concurrent() const override { return concurrent_; }
  [[noreturn]] void abort(int exit_code) override;

 private:
  struct Pending {
    MPI_Request request = MPI_REQUEST_NULL;
    std::int64_t peer = -1;    // -1: all ranks
    std::int64_t bucket = -1;  // index into several
  };
  struct Operation {
    const char* name;
    const std::string& what;
    std::int64_t num_buckets = 0;
  };

  MpiCommunicator(const MpiCommunicator& whole, MPI_Comm part, std::vector<std::int64_t> job_ranks);

  void start(const Operation& operation, std::vector<at::Tensor> buffers);
  void complete(const Operation& operation, std::vector<Pending>& pending) {
    complete(operation, pending, Pace::kMoving, WaitLimit(limit()));
  }
  void complete(const Operation& operation, std::vector<Pending>& pending, Pace pace, WaitLimit wait_limit);
  [[noreturn]] void fail_late(const Operation& operation, std::vector<Pending>& pending,
                              const WaitLimit& wait_limit,
                              const std::vector<std::int64_t>& missing_here = {});
  void start_all_reduce(at::Tensor& tensor, std::int64_t bucket, std::vector<Pending>& pending);
  void start_send(const at::Tensor& tensor, std::int64_t peer, std::vector<Pending>& pending);
  void start_receive(at::Tensor& tensor, std::int64_t peer, std::vector<Pending>& pending);
  void connect_world();
  /// The rank among those of this host.
  std::int64_t join_host();
  std::string own_name() const;

  Options options_;
  bool concurrent_ = false;
  bool finalises_ = false;
  int exceptions_at_start_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::int64_t rank_ = 0, world_size_ = 1, local_rank_ = 0;
  std::string host_;
  std::vector<std::int64_t> job_ranks_;  // by rank here: its rank in the job, for errors
  std::int64_t job_size_ = 1;

  // True from the start of an operation until it has completed. When an operation fails it stays true: MPI
  // may still write to the buffers, so they are kept, and nothing may be called any more that waits for other
  // ranks.
  bool broken_ = false;
  std::vector<at::Tensor> buffers_;
  std::unique_ptr<HostMeeting> host_meeting_;  // none where this rank shares no memory with another
};

}  // namespace cosub::collective
