// Collective operations over the ranks of one job. Implementations: one rank without MPI, MPI (CPU tensors), NCCL
// (CUDA tensors; a module loaded only where a GPU is). Every call is collective: every rank must make it, in the same
// order. Nothing waits for ever: passing the limit throws CollectiveError naming rank, operation and `what`.
// Used from one thread at a time (the trainer's), unless a function says otherwise.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cosub::collective {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t world_size() const = 0;
  virtual std::int64_t local_rank() const = 0;      // among the ranks of this host
  virtual std::string name() const = 0;             // "single", "mpi", "nccl"

  /// `what` names the wait in errors: "step 12, bucket 3 of 5".
  virtual void all_reduce_sum(at::Tensor& tensor, const std::string& what) = 0;   // contiguous; float32/64, int64
  virtual void broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) = 0;
  /// send: [W * n] split into W equal parts by receiver; recv: [W * n] by sender.
  virtual void all_to_all_varied(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                                 const std::string& what) = 0;                    // send[r] to r, recv[r] from r
  virtual void all_gather_varied(const at::Tensor& mine, std::vector<at::Tensor>& all, const std::string& what) = 0;
  virtual std::vector<std::string> all_gather_text(const std::string& mine, const std::string& what) = 0;
  virtual void barrier(const std::string& what) = 0;
  /// Ends every rank of the job at once with this code.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  std::chrono::milliseconds limit() const { return limit_; }
  void set_limit(std::chrono::milliseconds limit) { limit_ = limit; }

 private:
  std::chrono::milliseconds limit_ = std::chrono::minutes(5);
};

/// MPI when started by mpirun or srun (OMPI_COMM_WORLD_SIZE, PMIX_RANK), one rank otherwise. MPI is initialised here
/// (MPI_THREAD_SERIALIZED at least) and finalised by the destructor.
std::unique_ptr<Communicator> connect();

/// NCCL over the ranks of `bootstrap`, from the module cosub_nccl; IoError when the module or a GPU is missing.
std::unique_ptr<Communicator> connect_nccl(Communicator& bootstrap);

/// The contiguous range of microbatches of a step that a rank owns.
struct Range {
  std::int64_t begin = 0, end = 0;
  bool operator==(const Range&) const = default;
};
Range microbatches_of(std::int64_t rank, std::int64_t world_size, std::int64_t num_microbatches);

}  // namespace cosub::collective
