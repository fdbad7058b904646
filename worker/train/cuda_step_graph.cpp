// The module cosub_graph: StepGraph as a CUDA graph. Loaded by make_step_graph, once LibTorch's CUDA half is
// there.
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <utility>

#include "common/error.h"
#include "worker/train/step_graph.h"

namespace cosub::train {
namespace {

/// Steps that run as they are before one is captured: libraries choose their kernels and take their
/// workspaces.
constexpr int kWarmUp = 3;

class CudaStepGraph final : public StepGraph {
 public:
  CudaStepGraph(at::Device device, bool may_give_up)
      : guard_device_(device),
        may_give_up_(may_give_up),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())) {}

  void run(const std::function<void()>& work) override {
    const c10::cuda::CUDAGuard on_device(guard_device_);
    if (captured_) return graph_.replay();
    if (given_up_ || num_runs_ < kWarmUp) {
      ++num_runs_;
      return on_own_stream(work);
    }
    capture(work);
    if (captured_) return graph_.replay();
    on_own_stream(work);
  }

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
    bool capturing = false;
    try {
      // Thread-local: the loader's threads copy and allocate meanwhile, on streams of their own.
      graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      capturing = true;
      work();
      capturing = false;
      graph_.capture_end();
      captured_ = true;
      spdlog::info("the step is captured: from now on it is launched as one CUDA graph");
    } catch (const std::exception& error) {
      if (capturing) end_capture();
      (void)cudaGetLastError();  // or the next launch would take it for its own
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

  void end_capture() noexcept {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {  // of the capture that has failed already, as has been said
    }
  }

  const at::Device guard_device_;
  const bool may_give_up_;
  c10::cuda::CUDAStream stream_;
  at::cuda::CUDAGraph graph_;
  int num_runs_ = 0;
  bool captured_ = false, given_up_ = false;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) void cosub_make_step_graph(
    at::Device device, bool may_give_up, std::unique_ptr<StepGraph>& made) {
  made = std::make_unique<CudaStepGraph>(device, may_give_up);
}

}  // namespace cosub::train
