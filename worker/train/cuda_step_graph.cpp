// The module cosub_graph: StepGraph as a CUDA graph. Loaded by make_step_graph, once LibTorch's CUDA half is
// there.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <optional>
#include <utility>

#include "common/error.h"
#include "worker/train/step_graph.h"

namespace cosub::train {
namespace {

/// Steps that run as they are before one is captured: libraries choose their kernels and take their
/// workspaces.
constexpr int kWarmUp = 3;

/// None of LibTorch's pool: a stream of the loader's threads could be the same one, and their work would be
/// captured. Never destroyed: LibTorch keeps workspaces by stream.
c10::cuda::CUDAStream own_stream(at::Device device) {
  const c10::cuda::CUDAGuard on_device(device);
  cudaStream_t stream = nullptr;
  C10_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return c10::cuda::getStreamFromExternal(stream, device.index());
}

class CudaStepGraph final : public StepGraph {
 public:
  CudaStepGraph(at::Device device, bool may_give_up)
      : guard_device_(device), may_give_up_(may_give_up), stream_(own_stream(device)) {}

  void run(const std::function<void()>& work) override {
    const c10::cuda::CUDAGuard on_device(guard_device_);
    if (captured_) return graph_->replay();
    if (given_up_ || num_runs_ < kWarmUp) {
      ++num_runs_;
      return on_own_stream(work);
    }
    capture(work);
    if (captured_) return graph_->replay();
    on_own_stream(work);
  }
  bool captured() const override { return captured_; }

 private:
  /// After what the current stream has queued, and before what it queues from now on. The backward pass
  /// follows the forward pass onto its stream. Also without a graph, so that all steps are launched from one
  /// stream.
  void on_own_stream(const std::function<void()>& work) {
    const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream(guard_device_.index());
    wait_for(stream_, current);
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      work();
    }
    wait_for(current, stream_);
  }

  static void wait_for(const c10::cuda::CUDAStream& waiting, const c10::cuda::CUDAStream& awaited) {
    at::cuda::CUDAEvent event;
    event.record(awaited);
    event.block(waiting);
  }

  /// Nothing runs meanwhile.
  void capture(const std::function<void()>& work) {
    const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream(guard_device_.index());
    stream_.synchronize();
    current.synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();  // the graph has a pool of its own
    const c10::cuda::CUDAStreamGuard guard(stream_);
    const at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
    graph_.emplace();
    bool ending = false;
    try {
      // Thread-local: the loader's threads copy and allocate meanwhile, on streams of their own.
      graph_->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      work();
      ending = true;
      graph_->capture_end();
      captured_ = true;
      spdlog::info("the step is captured: from now on it is launched as one CUDA graph");
    } catch (const std::exception& error) {
      clean_up(pool, ending);
      // With NCCL's operations captured on one rank and not on another both would wait for ever.
      if (!may_give_up_) {
        throw Error(fmt::format(
            "the step cannot be captured as a CUDA graph; cuda_graph: false does without: {}", error.what()));
      }
      given_up_ = true;
      spdlog::warn(
          "the step cannot be captured as a CUDA graph and is launched kernel by kernel "
          "(cuda_graph: false does not try): {}",
          error.what());
    }
  }

  /// After a capture that failed: CUDAGraph leaves the allocators in the state of a capture, in which they
  /// free nothing, and the pool with a step's memory taken. Whatever is done already throws, which is no
  /// news.
  void clean_up(at::cuda::MempoolId_t pool, bool was_ending) noexcept {
    const c10::DeviceIndex device = guard_device_.index();
    at::HostAllocator* const host = at::getHostAllocator(at::kCUDA);
    if (!was_ending) attempt([&] { graph_->capture_end(); });
    attempt([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
    attempt([&] { host->end_allocate_to_pool(pool); });
    attempt([&] { graph_->reset(); });  // gives the pool back where the capture itself had ended
    if (!was_ending) {
      attempt([&] { c10::cuda::CUDACachingAllocator::releasePool(device, pool); });
      attempt([&] { host->release_pool(pool); });
    }
    graph_.reset();
    attempt([] { c10::cuda::CUDACachingAllocator::emptyCache(); });
    (void)cudaGetLastError();  // or the next launch would take it for its own
  }

  template <typename Call>
  static void attempt(Call&& call) noexcept {
    try {
      call();
    } catch (const std::exception& error) {
      spdlog::debug("after a failed capture: {}", error.what());
    }
  }

  const at::Device guard_device_;
  const bool may_give_up_;
  c10::cuda::CUDAStream stream_;
  std::optional<at::cuda::CUDAGraph> graph_;
  int num_runs_ = 0;
  bool captured_ = false, given_up_ = false;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) void cosub_make_step_graph(
    at::Device device, bool may_give_up, std::unique_ptr<StepGraph>& made) {
  made = std::make_unique<CudaStepGraph>(device, may_give_up);
}

}  // namespace cosub::train
