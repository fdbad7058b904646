#include "worker/collective/nccl_communicator.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <utility>

#include "common/error.h"
#include "worker/collective/gpu_choice.h"
#include "worker/collective/nccl_module.h"
#include "worker/collective/poll.h"
#include "worker/collective/tensor_checks.h"
#include "worker/collective/wait_error.h"

namespace cosub::collective {
namespace {

constexpr std::chrono::milliseconds kLookEvery(100);
/// How long the end of a communicator waits for one that is being aborted.
constexpr std::chrono::seconds kAbortPatience(5);
/// How long a call is spun for that NCCL's thread usually accepts in some tens of microseconds.
constexpr std::chrono::microseconds kAcceptSpin(500);

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

std::size_t count_of(const at::Tensor& tensor) {
  return static_cast<std::size_t>(tensor.numel());
}

bool is_error(ncclResult_t result) {
  return result != ncclSuccess && result != ncclInProgress;
}

// A process has several communicators on its GPU: the exchange of gradients on a stream of its own, the group
// of sync_batchnorm on the stream that computes. Kernels of two communicators at the same time can wait for
// each other's places on the GPU, on one rank this way and on another that way. With this setting NCCL (2.26
// and later) keeps to the order of the host's calls, which is the same on every rank, and lets kernels run
// beside each other where that is safe.
void order_launches_by_calls() {
  if (setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", /*overwrite=*/0) != 0)
    spdlog::warn("NCCL_LAUNCH_ORDER_IMPLICIT: not set ({})", std::strerror(errno));
}

}  // namespace

void NcclAbort::start(ncclComm_t communicator, int device) {
  std::packaged_task<void()> task([communicator, device] {
    // The error that led here is the one to report.
    (void)cudaSetDevice(device);
    (void)ncclCommAbort(communicator);
  });
  done_ = task.get_future();
  thread_ = std::thread(std::move(task));
}

NcclAbort::~NcclAbort() {
  if (!thread_.joinable()) return;
  if (done_.wait_for(kAbortPatience) == std::future_status::ready) {
    thread_.join();
  } else {
    spdlog::warn("NCCL did not abort within {} s; a CUDA graph may hold its operations",
                 kAbortPatience.count());
    thread_.detach();
  }
}

NcclCommunicator::NcclCommunicator(Communicator& bootstrap)
    : bootstrap_(bootstrap),
      who_(describe_rank(bootstrap.rank(), bootstrap.world_size(), short_host_name())),
      device_(choose_device()),
      family_(std::make_shared<Family>()),
      watch_(who_) {
  set_limit(bootstrap.limit());
  order_launches_by_calls();
  or_fail([this] { connect_ranks(); });
  watchdog_ = std::thread([this] { look_repeatedly(); });
}

NcclCommunicator::NcclCommunicator(const NcclCommunicator& whole, std::unique_ptr<Communicator> bootstrap)
    : own_bootstrap_(std::move(bootstrap)),
      bootstrap_(*own_bootstrap_),
      who_(whole.who_),
      device_(use_device(whole.device_)),
      family_(whole.family_),
      watch_(who_) {
  set_limit(whole.limit());
  or_fail([this] { connect_ranks(); });
  watchdog_ = std::thread([this] { look_repeatedly(); });
}

NcclCommunicator::~NcclCommunicator() {
  if (watchdog_.joinable()) {
    {
      const std::lock_guard lock(ending_mutex_);
      ending_ = true;
    }
    ended_.notify_all();
    watchdog_.join();
  }
  const std::lock_guard lock(mutex_);
  if (comm_ != nullptr && !family_->error.is_set() && std::uncaught_exceptions() <= exceptions_at_start_) {
    ncclResult_t state = ncclCommFinalize(comm_);
    const auto done = [&] {
      return ncclCommGetAsyncError(comm_, &state) != ncclSuccess || state != ncclInProgress;
    };
    if (poll_until(done, limit(), cancelled()) && state == ncclSuccess &&
        ncclCommDestroy(comm_) == ncclSuccess) {
      comm_ = nullptr;
    }
  }
  abort_communicator();
}

int NcclCommunicator::choose_device() {
  const std::string operation = "connect";
  int num_devices = 0;
  check_cuda(cudaGetDeviceCount(&num_devices), operation, "");
  const int device = gpu_of(local_rank(), num_devices);
  if (device < 0) {
    throw ConfigError(
        fmt::format("{} has local rank {}, but its host shows {} GPUs: start at most {} ranks there", who_,
                    local_rank(), num_devices, num_devices));
  }
  char address[32] = {};
  check_cuda(cudaDeviceGetPCIBusId(address, sizeof address, device), operation, "");
  const std::string mine = fmt::format("{} on {}", address, short_host_name());
  const std::string shared = shared_gpu(bootstrap_.all_gather_text(mine, "the ranks' GPUs"), rank());
  if (!shared.empty()) throw ConfigError(fmt::format("{}: {}", who_, shared));
  return use_device(device);
}

int NcclCommunicator::use_device(int device) {
  check_cuda(cudaSetDevice(device), "connect", "");
  return device;
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
  if (!is_alone()) warm_up();
}

void NcclCommunicator::queue_also_alone() {
  queues_alone_ = true;
  warm_up();
}

// Connections are made by the first operation that uses them: not one that is captured, then.
void NcclCommunicator::warm_up() {
  const std::string operation = "connect", what = "first operation";
  auto one =
      at::ones({1}, at::TensorOptions(at::kFloat).device(at::kCUDA, static_cast<c10::DeviceIndex>(device_)));
  run(operation, what, [&](cudaStream_t stream) {
    return ncclAllReduce(one.data_ptr(), one.data_ptr(), 1, ncclFloat32, ncclSum, comm_, stream);
  });
  const auto done = [&] {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &state), operation, what);
    check_nccl(state, operation, what);
    return mark_.read() == Watch::ended(1);
  };
  if (!poll_until(done, limit(), cancelled()))
    throw WaitLimitError(who_, limit(), "the other ranks", describe_operation(operation, what));
}

Communicator& NcclCommunicator::bootstrap() {
  check();
  bootstrap_.set_limit(limit());
  return bootstrap_;
}

std::string NcclCommunicator::describe(const std::string& operation, const std::string& what) const {
  return fmt::format("{} in {}", who_, describe_operation(operation, what));
}

/// With mutex_ held, or in the constructor: what work() throws is the end of this communicator and of those
/// related to it. Throws the first of their errors.
template <typename Work>
void NcclCommunicator::or_fail(Work&& work) {
  try {
    return work();
  } catch (...) {
    family_->error.set(std::current_exception());
  }
  abort_communicator();
  family_->error.check();
}

void NcclCommunicator::check_nccl(ncclResult_t result, const std::string& operation, const std::string& what,
                                  std::source_location where) {
  if (!is_error(result)) return;
  throw CollectiveError(fmt::format("NCCL failed on {}: {}, {} ({}:{})", describe(operation, what),
                                    ncclGetErrorString(result), ncclGetLastError(comm_), where.file_name(),
                                    where.line()));
}

void NcclCommunicator::check_cuda(cudaError_t result, const std::string& operation, const std::string& what,
                                  std::source_location where) {
  if (result == cudaSuccess) return;
  throw CollectiveError(fmt::format("CUDA failed on {}: {} ({}:{})", describe(operation, what),
                                    cudaGetErrorString(result), where.file_name(), where.line()));
}

/// With mutex_ held, or by the constructor.
void NcclCommunicator::abort_communicator() {
  if (comm_ == nullptr) return;
  abort_.start(std::exchange(comm_, nullptr), device_);
}

// A nonblocking communicator does its host work in the background; until it is no longer in progress, nothing
// else may be asked of it, and its kernels are not on the stream yet.
void NcclCommunicator::wait_until_accepted(const std::string& operation, const std::string& what) {
  ncclResult_t state = ncclInProgress;
  const auto done = [&] {
    check();
    check_nccl(ncclCommGetAsyncError(comm_, &state), operation, what);
    check_nccl(state, operation, what);
    return state == ncclSuccess;
  };
  const auto spin_until = std::chrono::steady_clock::now() + kAcceptSpin;
  while (std::chrono::steady_clock::now() < spin_until) {
    if (done()) return;
    std::this_thread::yield();
  }
  if (!poll_until(done, limit(), cancelled()))
    throw WaitLimitError(who_, limit(), "the other ranks", describe_operation(operation, what));
}

template <typename Enqueue>
void NcclCommunicator::run(const std::string& operation, const std::string& what, Enqueue&& enqueue) {
  check();
  if (comm_ == nullptr) {
    throw CollectiveError(fmt::format("{}: an earlier operation failed", describe(operation, what)));
  }
  const auto device = static_cast<c10::DeviceIndex>(device_);
  const c10::cuda::CUDAGuard on_device(device);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device).stream();
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &capture), operation, what);
  const std::uint64_t number = watch_.add(operation, what, capture != cudaStreamCaptureStatusNone);
  mark_.write(stream, Watch::begun(number));
  check_nccl(ncclGroupStart(), operation, what);
  const ncclResult_t queued = enqueue(stream);
  const ncclResult_t ended = ncclGroupEnd();  // in any case: a group left open would take in later calls
  check_nccl(queued, operation, what);
  check_nccl(ended, operation, what);
  wait_until_accepted(operation, what);
  if (before_end_) before_end_(stream);
  mark_.write(stream, Watch::ended(number));
}

template <typename Enqueue>
void NcclCommunicator::locked_run(const std::string& operation, const std::string& what, Enqueue&& enqueue) {
  const std::lock_guard lock(mutex_);
  or_fail([&] { run(operation, what, enqueue); });
}

void NcclCommunicator::set_step(std::int64_t step) {
  if (is_alone()) return;
  const auto device = static_cast<c10::DeviceIndex>(device_);
  const c10::cuda::CUDAGuard on_device(device);
  family_->step.write(c10::cuda::getCurrentCUDAStream(device).stream(), static_cast<std::uint64_t>(step + 1));
}

void NcclCommunicator::look_repeatedly() {
  std::unique_lock lock(ending_mutex_);
  while (!ended_.wait_for(lock, kLookEvery, [this] { return ending_; })) {
    lock.unlock();
    look();
    lock.lock();
  }
}

void NcclCommunicator::look() {
  if (!family_->error.is_set()) {
    const Watch::Seen seen{.mark = mark_.read(), .step = static_cast<std::int64_t>(family_->step.read()) - 1};
    if (const auto late = watch_.look(seen, std::chrono::steady_clock::now(), limit(), cancelled()))
      family_->error.set(std::make_exception_ptr(*late));
  }
  // The one who holds the mutex is in a call that ends by itself: if not this time, then next time.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  if (!family_->error.is_set()) look_for_error_of_nccl();
  if (family_->error.is_set()) abort_communicator();
}

/// With mutex_ held.
void NcclCommunicator::look_for_error_of_nccl() {
  if (comm_ == nullptr) return;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
  const ncclResult_t result = is_error(asked) ? asked : state;
  if (!is_error(result)) return;
  const std::string operation = watch_.under_way();
  family_->error.set(std::make_exception_ptr(CollectiveError(
      fmt::format("NCCL failed on {} in {}: {}, {}", who_, operation.empty() ? "the background" : operation,
                  ncclGetErrorString(result), ncclGetLastError(comm_)))));
}

void NcclCommunicator::all_reduce_sum(at::Tensor& tensor, const std::string& what) {
  const char* operation = "all_reduce_sum";
  check_tensor(tensor, at::kCUDA, operation);
  if (is_alone()) return check();
  locked_run(operation, what, [&](cudaStream_t stream) {
    return ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), count_of(tensor),
                         nccl_type(tensor.scalar_type()), ncclSum, comm_, stream);
  });
}

void NcclCommunicator::all_reduce_sum_buckets(std::vector<at::Tensor>& buckets, const std::string& what) {
  const char* operation = "all_reduce_sum";
  for (const auto& bucket : buckets) check_tensor(bucket, at::kCUDA, operation);
  if (is_alone()) return check();
  // One group: NCCL runs the buckets together, so that an error names them all.
  locked_run(operation, fmt::format("{}, {} buckets", what, buckets.size()), [&](cudaStream_t stream) {
    for (const auto& bucket : buckets) {
      const ncclResult_t result = ncclAllReduce(bucket.data_ptr(), bucket.data_ptr(), count_of(bucket),
                                                nccl_type(bucket.scalar_type()), ncclSum, comm_, stream);
      if (is_error(result)) return result;
    }
    return ncclSuccess;
  });
}

void NcclCommunicator::broadcast(at::Tensor& tensor, std::int64_t root, const std::string& what) {
  const char* operation = "broadcast";
  check_tensor(tensor, at::kCUDA, operation);
  if (is_alone()) return check();
  locked_run(operation, what, [&](cudaStream_t stream) {
    return ncclBroadcast(tensor.data_ptr(), tensor.data_ptr(), count_of(tensor),
                         nccl_type(tensor.scalar_type()), static_cast<int>(root), comm_, stream);
  });
}

void NcclCommunicator::all_to_all(const std::vector<at::Tensor>& send, std::vector<at::Tensor>& recv,
                                  const std::string& what) {
  const char* operation = "all_to_all";
  check_tensors(send, world_size(), at::kCUDA, operation);
  check_tensors(recv, world_size(), at::kCUDA, operation);
  copy_own(send[rank()], recv[rank()]);
  if (is_alone()) return check();
  locked_run(operation, what, [&](cudaStream_t stream) {
    for (int peer = 0; peer < static_cast<int>(world_size()); ++peer) {
      if (peer == rank()) continue;
      const auto& to = send[peer];
      auto& from = recv[peer];
      const ncclResult_t sent =
          ncclSend(to.data_ptr(), count_of(to), nccl_type(to.scalar_type()), peer, comm_, stream);
      if (is_error(sent)) return sent;
      const ncclResult_t received =
          ncclRecv(from.data_ptr(), count_of(from), nccl_type(from.scalar_type()), peer, comm_, stream);
      if (is_error(received)) return received;
    }
    return ncclSuccess;
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

void NcclCommunicator::meet(const std::string& what, const std::function<bool()>& goes_on) {
  bootstrap().meet(what, goes_on);
}

std::unique_ptr<Communicator> NcclCommunicator::split(std::int64_t color, const std::string& what) {
  return std::make_unique<NcclCommunicator>(*this, bootstrap().split(color, what));
}

void NcclCommunicator::abort(int exit_code) {
  // Without NCCL's abort, which may wait: the end of the process ends its kernels.
  bootstrap_.abort(exit_code);
  std::_Exit(exit_code);
}

// Called by connect_nccl through dlsym.
extern "C" __attribute__((visibility("default"))) void cosub_make_nccl_communicator(
    Communicator& bootstrap_communicator, std::unique_ptr<Communicator>& made) {
  made = std::make_unique<NcclCommunicator>(bootstrap_communicator);
}

}  // namespace cosub::collective
