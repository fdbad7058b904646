// Collective operations over the ranks of one job. Implementations: one rank without MPI, MPI (CPU tensors),
// NCCL (CUDA tensors; a module loaded only where a GPU is). Every call is collective: every rank must make
// it, in the same order. Nothing waits for ever: passing the limit throws CollectiveError naming rank,
// operation and `what`. Used from one thread at a time (the trainer's), unless a function says otherwise.
//
// Where tensors are on a GPU, an operation on tensors returns when it is queued on the current stream: what
// that stream gets later finds the result, in stream order; the host must synchronise with the stream first,
// as .cpu() and .item() do. The operations of one communicator must be in one order on the GPU too: on one
// stream, or on streams that wait for each other. They may be captured into a CUDA graph, which must end
// before the communicator does. Errors and limits (counted from when the GPU reaches the operation) are found
// in the background: see check(). Texts, barrier and split wait on the host whatever the device, for the
// other hosts and not for what GPUs have queued.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cosub::collective {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t world_size() const = 0;
  virtual std::int64_t local_rank() const = 0;  // among the ranks of this host
  virtual std::string name() const = 0;         // "single", "mpi", "nccl"

  /// `what` names the wait in errors: "step 12, bucket 3 of 5". Tensors are contiguous, of float32, float64,
  /// int64 or uint8, on CPU (NCCL: on this rank's GPU), sized by the caller alike on both sides; any length,
  /// 0 included.
  virtual void all_reduce_sum(at::Tensor& tensor, const std::string& what) = 0;
  /// Several at once, all in flight together; errors name "bucket 3 of 5".
  virtual void all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) = 0;
  virtual void broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) = 0;
  /// send[r] goes to rank r, recv[r] comes from rank r; sizes may differ by rank. recv[own] may be send[own]
  /// itself.
  virtual void all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                          const std::string& what) = 0;
  /// all[r] becomes rank r's `mine`, which may be all[own] itself; sizes may differ by rank.
  virtual void all_gather(const at::Tensor& mine, std::vector<at::Tensor>& all, const std::string& what) = 0;
  virtual std::vector<std::string> all_gather_text(const std::string& mine, const std::string& what) = 0;
  virtual void barrier(const std::string& what) = 0;
  /// A barrier for who has time: over MPI a wait for ranks of this host costs nothing, and one for ranks of
  /// other hosts asks rarely, up to a millisecond late; so the core is left to those who compute. Its error
  /// names the ranks that did not come. `goes_on`: where the limit has passed the wait lasts for as long as
  /// it says so, being asked about every second; it may know that nobody is missing but only slow.
  virtual void meet(const std::string& what, const std::function<bool()>& /*goes_on*/ = {}) { barrier(what); }
  /// The ranks that give the same `color` (0 or above) as a communicator of their own, numbered in the order
  /// of their ranks here. It takes over limit() and local_rank(), names ranks in errors by their numbers in
  /// the job, and must not outlive this one.
  virtual std::unique_ptr<Communicator> split(std::int64_t color, const std::string& what) = 0;
  /// Throws what went wrong in the background, in this communicator or in one that split() relates it to; so
  /// does every later operation of these. To be called after the host has synchronised with the GPU and
  /// before it uses a number from there: the numbers are wrong then. Not collective; from any thread.
  virtual void check() {}
  /// The step that what is queued on the current stream from now on belongs to, also in communicators that
  /// split() makes. For errors: a CUDA graph replays its operations in steps other than the one that their
  /// `what` names (a "step N" at its beginning). Not collective, and not part of a capture.
  virtual void set_step(std::int64_t /*step*/) {}
  /// Whether communicators that split() made may be used by other threads at the same time as this one.
  virtual bool concurrent() const = 0;
  /// Ends every rank of the job at once with this code.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  std::chrono::milliseconds limit() const { return limit_; }  // from any thread, as set_limit
  void set_limit(std::chrono::milliseconds limit) { limit_ = limit; }
  /// From any thread: what waits in this communicator, now or later, fails as if its limit had passed.
  void cancel() { cancelled_ = true; }

 protected:
  const std::atomic<bool>& cancelled() const { return cancelled_; }

 private:
  std::atomic<bool> cancelled_ = false;
  std::atomic<std::chrono::milliseconds> limit_ = std::chrono::milliseconds(std::chrono::minutes(5));
};

/// MPI when started by mpirun or srun --mpi=pmix (OMPI_COMM_WORLD_SIZE, PMIX_RANK, PMI_RANK), one rank
/// otherwise; ConfigError when srun started several ranks without MPI. MPI is initialised here
/// (MPI_THREAD_SERIALIZED at least) and finalised by the destructor, unless a collective failed or an
/// exception is unwinding: then the process must exit, and its exit makes mpirun end the other ranks. `limit`
/// is the communicator's, and holds for the start too: a rank that waits longer for the others says so and
/// leaves.
std::unique_ptr<Communicator> connect(std::chrono::milliseconds limit = std::chrono::minutes(5));

/// NCCL over the ranks of `bootstrap` (which must outlive it), each on GPU local_rank or, where a rank sees
/// only one, on that one; it is the calling thread's device from then on. From the module cosub_nccl; IoError
/// when the module or a GPU is missing, ConfigError when there are fewer GPUs than ranks. Collective. Call it
/// before anything asks LibTorch about CUDA: the module brings in libtorch_cuda, which this program does not
/// link.
std::unique_ptr<Communicator> connect_nccl(Communicator& bootstrap);

/// Whether this host has a GPU and its driver; loads no CUDA library.
bool gpu_present();

}  // namespace cosub::collective
