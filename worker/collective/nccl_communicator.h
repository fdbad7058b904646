// Communicator over NCCL, for tensors on this rank's GPU; in the module cosub_nccl, which connect_nccl loads.
// Operations are queued on the current stream, each between two marks that the stream writes into host memory
// (stream_word.h). A thread looks at these ten times a second and asks NCCL for errors: what takes too long
// or has failed aborts this communicator and those that split() relates it to, which ends their kernels, so
// that whoever waits for the GPU comes back; check() and every later call then throw the error.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <thread>
#include <vector>

#include "worker/collective/communicator.h"
#include "worker/collective/stream_word.h"
#include "worker/collective/watch.h"

namespace cosub::collective {

/// Ends a communicator's kernels and frees it, in a thread: NCCL's call returns only once no CUDA graph holds
/// an operation of the communicator any more (ncclCommAbort waits also where the communicator is nonblocking;
/// NCCL 2.28, src/init.cc).
class NcclAbort {
 public:
  NcclAbort() = default;
  /// Waits a while for it, and then leaves it to the end of the process.
  ~NcclAbort();
  NcclAbort(const NcclAbort&) = delete;
  NcclAbort& operator=(const NcclAbort&) = delete;
  void start(ncclComm_t communicator, int device);  // once

 private:
  std::future<void> done_;
  std::thread thread_;
};

class NcclCommunicator final : public Communicator {
 public:
  /// Collective. Waits for the other ranks and, for one first operation, for the GPU: NCCL has set itself up
  /// and the communicator may be captured from then on. A single rank has nothing to wait for.
  explicit NcclCommunicator(Communicator& bootstrap);
  NcclCommunicator(const NcclCommunicator& whole, std::unique_ptr<Communicator> bootstrap);
  /// Waits for what is queued, up to the limit; not where an operation failed or an exception is unwinding.
  ~NcclCommunicator() override;
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  std::int64_t rank() const override { return bootstrap_.rank(); }
  std::int64_t world_size() const override { return bootstrap_.world_size(); }
  std::int64_t local_rank() const override { return bootstrap_.local_rank(); }
  std::string name() const override { return "nccl"; }

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
  void check() override { family_->error.check(); }
  void set_step(std::int64_t step) override;
  /// NCCL_LAUNCH_ORDER_IMPLICIT follows the order of one thread's calls.
  bool concurrent() const override { return false; }
  [[noreturn]] void abort(int exit_code) override;

  /// For tests: a single rank queues its operations as several do; otherwise it has none.
  void queue_also_alone();
  /// For tests: called within each operation, before its second mark, with its stream.
  void set_before_end(std::function<void(cudaStream_t)> call) { before_end_ = std::move(call); }

 private:
  /// What communicators share that come from one another by split().
  struct Family {
    StreamWord step;  // 1 + the step that the GPU is in; 0: unknown
    FirstError error;
  };

  std::string describe(const std::string& operation, const std::string& what) const;
  void check_nccl(ncclResult_t result, const std::string& operation, const std::string& what,
                  std::source_location where = std::source_location::current());
  void check_cuda(cudaError_t result, const std::string& operation, const std::string& what,
                  std::source_location where = std::source_location::current());
  template <typename Work>
  void or_fail(Work&& work);
  void abort_communicator();
  int choose_device();  // collective
  int use_device(int device);
  void connect_ranks();
  void warm_up();
  bool is_alone() const { return world_size() == 1 && !queues_alone_; }
  void wait_until_accepted(const std::string& operation, const std::string& what);
  /// enqueue(stream) makes the NCCL calls of one group and returns the first result that is an error.
  template <typename Enqueue>
  void run(const std::string& operation, const std::string& what, Enqueue&& enqueue);
  template <typename Enqueue>
  void locked_run(const std::string& operation, const std::string& what, Enqueue&& enqueue);
  void look_repeatedly();
  void look();
  void look_for_error_of_nccl();
  Communicator& bootstrap();

  const std::unique_ptr<Communicator> own_bootstrap_;  // of a part that split() made
  Communicator& bootstrap_;
  const std::string who_;  // by its rank in the job
  const int exceptions_at_start_ = std::uncaught_exceptions();
  const int device_;
  const std::shared_ptr<Family> family_;
  StreamWord mark_;
  Watch watch_;
  std::function<void(cudaStream_t)> before_end_;
  bool queues_alone_ = false;

  NcclAbort abort_;
  std::mutex mutex_;           // held while NCCL is asked anything about comm_
  ncclComm_t comm_ = nullptr;  // null: not connected, or aborted after a failure

  std::mutex ending_mutex_;
  std::condition_variable ended_;
  bool ending_ = false;  // guarded by ending_mutex_
  std::thread watchdog_;
};

}  // namespace cosub::collective
