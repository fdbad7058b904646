// The module cosub_nccl: Communicator over NCCL, for tensors on this rank's GPU. Loaded by connect_nccl. Each
// operation runs on a stream of its own, after the work queued on the current stream, and has completed when
// it returns. The host polls for its end, so that a lost peer shows as a CollectiveError within the limit;
// then the communicator is aborted, which also ends the kernels that wait on the GPU.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <source_location>
#include <stdexcept>

#include "common/error.h"
#include "worker/collective/nccl_module.h"
#include "worker/collective/poll.h"
#include "worker/collective/tensor_checks.h"

namespace cosub::collective {
namespace {

std::string short_host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown host";
}

ncclDataType_t nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kLong:
      return ncclInt64;
    case at::kByte:
      return ncclUint8;
    default:
      throw std::logic_error("no NCCL type for this dtype");
  }
}

class NcclCommunicator final : public Communicator {
 public:
  explicit NcclCommunicator(Communicator& bootstrap);
  NcclCommunicator(const NcclCommunicator& whole, std::unique_ptr<Communicator> bootstrap);
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
  std::unique_ptr<Communicator> split(std::int64_t color, const std::string& what) override;
  bool concurrent() const override { return bootstrap_.concurrent(); }
  [[noreturn]] void abort(int exit_code) override;

 private:
  std::string describe(const std::string& operation, const std::string& what) const;
  void check_nccl(ncclResult_t result, const std::string& operation, const std::string& what,
                  std::source_location where = std::source_location::current());
  void check_cuda(cudaError_t result, const std::string& operation, const std::string& what,
                  std::source_location where = std::source_location::current());
  [[noreturn]] void fail(const std::string& message);
  void abort_communicator();
  void choose_device();
  void connect_ranks();
  void wait_until_accepted(const std::string& operation, const std::string& what);
  /// enqueue() makes the NCCL calls of one group, on stream_.
  template <typename Enqueue>
  void run(const std::string& operation, const std::string& what, Enqueue&& enqueue);
  Communicator& bootstrap();

  const std::unique_ptr<Communicator> own_bootstrap_;  // of a part that split() made
  Communicator& bootstrap_;
  const std::string who_;  // by its rank in the job
  const int exceptions_at_start_ = std::uncaught_exceptions();
  int device_ = 0;
  ncclComm_t comm_ = nullptr;  // null: not connected, or aborted after a failure
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr, finished_ = nullptr;
};

NcclCommunicator::NcclCommunicator(Communicator& bootstrap)
    : bootstrap_(bootstrap),
      who_(describe_rank(bootstrap.rank(), bootstrap.world_size(), short_host_name())) {
  set_limit(bootstrap.limit());
  choose_device();
  connect_ranks();
}

NcclCommunicator::NcclCommunicator(const NcclCommunicator& whole, std::unique_ptr<Communicator> bootstrap)
    : own_bootstrap_(std::move(bootstrap)), bootstrap_(*own_bootstrap_), who_(whole.who_) {
  set_limit(whole.limit());
  choose_device();
  connect_ranks();
}

NcclCommunicator::~NcclCommunicator() {
  bool clean = comm_ != nullptr && std::uncaught_exceptions() <= exceptions_at_start_;
  if (clean) {
    ncclResult_t state = ncclCommFinalize(comm_);
    const auto done = [&] {
      return ncclCommGetAsyncError(comm_, &state) != ncclSuccess || state != ncclInProgress;
    };
    clean = poll_until(done, limit(), cancelled()) && state == ncclSuccess &&
            ncclCommDestroy(comm_) == ncclSuccess;
    if (clean) comm_ = nullptr;
  }
  abort_communicator();
  // A stream whose kernels an abort has just ended may still report their error: nothing is left to do about
  // it.
  (void)cudaEventDestroy(ready_);
  (void)cudaEventDestroy(finished_);
  (void)cudaStreamDestroy(stream_);
}

void NcclCommunicator::choose_device() {
  const std::string operation = "connect";
  int num_devices = 0;
  check_cuda(cudaGetDeviceCount(&num_devices), operation, "");
  if (local_rank() >= num_devices) {
    throw ConfigError(
        fmt::format("{} has local rank {}, but its host shows {} GPUs: start at most {} ranks there", who_,
                    local_rank(), num_devices, num_devices));
  }
  device_ = static_cast<int>(local_rank());
  check_cuda(cudaSetDevice(device_), operation, "");
  int least = 0, greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), operation, "");
  check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), operation, "");
  check_cuda(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), operation, "");
  check_cuda(cudaEventCreateWithFlags(&finished_, cudaEventDisableTiming), operation, "");
}

void NcclCommunicator::connect_ranks() {
  const std::string operation = "connect";
  ncclUniqueId id = {};
  if (rank() == 0) check_nccl(ncclGetUniqueId(&id), operation, "");
  auto bytes = at::empty({static_cast<std::int64_t>(sizeof id)}, at::kByte);
  std::memcpy(bytes.data_ptr(), &id, sizeof id);
  bootstrap().broadcast(bytes, 0, "NCCL's unique id");
  std::memcpy(&id, bytes.data_ptr(), sizeof id);

  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check_nccl(
      ncclCommInitRankConfig(&comm_, static_cast<int>(world_size()), id, static_cast<int>(rank()), &config),
      operation, "");
  wait_until_accepted(operation, "");
}

Communicator& NcclCommunicator::bootstrap() {
  bootstrap_.set_limit(limit());
  return bootstrap_;
}

std::string NcclCommunicator::describe(const std::string& operation, const std::string& what) const {
  return fmt::format("{} in {}", who_, describe_operation(operation, what));
}

void NcclCommunicator::fail(const std::string& message) {
  abort_communicator();
  throw CollectiveError(message);
}

void NcclCommunicator::check_nccl(ncclResult_t result, const std::string& operation, const std::string& what,
                                  std::source_location where) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  fail(fmt::format("NCCL failed on {}: {}, {} ({}:{})", describe(operation, what), ncclGetErrorString(result),
                   ncclGetLastError(comm_), where.file_name(), where.line()));
}

void NcclCommunicator::check_cuda(cudaError_t result, const std::string& operation, const std::string& what,
                                  std::source_location where) {
  if (result == cudaSuccess) return;
  fail(fmt::format("CUDA failed on {}: {} ({}:{})", describe(operation, what), cudaGetErrorString(result),
                   where.file_name(), where.line()));
}

void NcclCommunicator::abort_communicator() {
  if (comm_ == nullptr) return;
  (void)ncclCommAbort(comm_);  // the error that led here is the one to report
  comm_ = nullptr;
}

// A nonblocking communicator does its host work in the background; until it is no longer in progress, nothing
// else may be asked of it.
void NcclCommunicator::wait_until_accepted(const std::string& operation, const std::string& what) {
  ncclResult_t state = ncclInProgress;
  const auto done = [&] {
    check_nccl(ncclCommGetAsyncError(comm_, &state), operation, what);
    check_nccl(state, operation, what);
    return state == ncclSuccess;
  };
  if (!poll_until(done, limit(), cancelled())) {
    abort_communicator();
    throw WaitLimitError(who_, limit(), "the other ranks", describe_operation(operation, what));
  }
}

template <typename Enqueue>
void NcclCommunicator::run(const std::string& operation, const std::string& what, Enqueue&& enqueue) {
  if (comm_ == nullptr) {
    throw CollectiveError(fmt::format("{}: an earlier operation failed", describe(operation, what)));
  }
  const auto current = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device_));
  check_cuda(cudaEventRecord(ready_, current.stream()), operation, what);
  check_cuda(cudaStreamWaitEvent(stream_, ready_, 0), operation, what);
  check_nccl(ncclGroupStart(), operation, what);
  enqueue();
  check_nccl(ncclGroupEnd(), operation, what);
  wait_until_accepted(operation, what);
  check_cuda(cudaEventRecord(finished_, stream_), operation, what);
  const auto done = [&] {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &state), operation, what);
    check_nccl(state, operation, what);
    const auto status = cudaEventQuery(finished_);
    if (status == cudaErrorNotReady) {
      (void)cudaGetLastError();  // or LibTorch's next launch would take it for its own
      return false;
    }
    check_cuda(status, operation, what);
    return true;
  };
  if (!poll_until(done, limit(), cancelled())) {
    abort_communicator();
    throw WaitLimitError(who_, limit(), "the other ranks", describe_operation(operation, what));
  }
}

void NcclCommunicator::all_reduce_sum(at::Tensor& tensor, const std::string& what) {
  const char* operation = "all_reduce_sum";
  check_tensor(tensor, at::kCUDA, operation);
  run(operation, what, [&] {
    check_nccl(ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), static_cast<std::size_t>(tensor.numel()),
                             nccl_type(tensor.scalar_type()), ncclSum, comm_, stream_),
               operation, what);
  });
}

void NcclCommunicator::all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) {
  const char* operation = "all_reduce_sum";
  for (const auto& bucket : buckets) check_tensor(bucket, at::kCUDA, operation);
  // One group: NCCL runs the buckets together, so that an error names them all.
  run(operation, fmt::format("{}, {} buckets", what, buckets.size()), [&] {
    for (const auto& bucket : buckets) {
      check_nccl(ncclAllReduce(bucket.data_ptr(), bucket.data_ptr(), static_cast<std::size_t>(bucket.numel()),
                               nccl_type(bucket.scalar_type()), ncclSum, comm_, stream_),
                 operation, what);
    }
  });
}

void NcclCommunicator::broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) {
  const char* operation = "broadcast";
  check_tensor(tensor, at::kCUDA, operation);
  run(operation, what, [&] {
    check_nccl(ncclBroadcast(tensor.data_ptr(), tensor.data_ptr(), static_cast<std::size_t>(tensor.numel()),
                             nccl_type(tensor.scalar_type()), static_cast<int>(root), comm_, stream_),
               operation, what);
  });
}

void NcclCommunicator::all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                                  const std::string& what) {
  const char* operation = "all_to_all";
  check_tensors(send, world_size(), at::kCUDA, operation);
  check_tensors(recv, world_size(), at::kCUDA, operation);
  copy_own(send[rank()], recv[rank()]);
  run(operation, what, [&] {
    for (int peer = 0; peer < static_cast<int>(world_size()); ++peer) {
      if (peer == rank()) continue;
      const auto& to = send[peer];
      auto& from = recv[peer];
      check_nccl(ncclSend(to.data_ptr(), static_cast<std::size_t>(to.numel()), nccl_type(to.scalar_type()),
                          peer, comm_, stream_),
                 operation, what);
      check_nccl(ncclRecv(from.data_ptr(), static_cast<std::size_t>(from.numel()),
                          nccl_type(from.scalar_type()), peer, comm_, stream_),
                 operation, what);
    }
  });
}

void NcclCommunicator::all_gather(const at::Tensor& mine, std::vector<at::Tensor>& all,
                                  const std::string& what) {
  // ncclAllGather wants equal sizes; these may differ.
  all_to_all(std::vector<at::Tensor>(static_cast<std::size_t>(world_size()), mine), all, what);
}

std::vector<std::string> NcclCommunicator::all_gather_text(const std::string& mine, const std::string& what) {
  return bootstrap().all_gather_text(mine, what);
}

void NcclCommunicator::barrier(const std::string& what) {
  bootstrap().barrier(what);
}

std::unique_ptr<Communicator> NcclCommunicator::split(std::int64_t color, const std::string& what) {
  return std::make_unique<NcclCommunicator>(*this, bootstrap().split(color, what));
}

void NcclCommunicator::abort(int exit_code) {
  abort_communicator();
  bootstrap_.abort(exit_code);
  std::_Exit(exit_code);
}

}  // namespace

// Called by connect_nccl through dlsym.
extern "C" __attribute__((visibility("default"))) void cosub_make_nccl_communicator(
    Communicator& bootstrap_communicator, std::unique_ptr<Communicator>& made) {
  made = std::make_unique<NcclCommunicator>(bootstrap_communicator);
}

}  // namespace cosub::collective
