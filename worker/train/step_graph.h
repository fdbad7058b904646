// The work of a step, to be done again and again on the same memory: on a GPU captured once as a CUDA graph
// and launched as one from then on, which costs the host next to nothing, where launching a thousand kernels
// one by one can take longer than they run.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "common/config/pipeline.h"

namespace cosub::train {

class StepGraph {
 public:
  virtual ~StepGraph() = default;
  /// Does `work`: what it queues on the current stream of the device. It must do the same each time but for
  /// the contents of memory that was there before: it reads no number of the host's that changes, waits for
  /// nothing, and the tensors that it leaves to others stay where they are.
  virtual void run(const std::function<void()>& work) = 0;
  /// Whether the work has been captured, so that run() launches it as one; false before, and where it cannot
  /// be.
  virtual bool captured() const = 0;
};

/// Of the module cosub_graph. nullptr where a step has to be launched kernel by kernel: on a CPU, with
/// cuda_graph: false, where the rows that branches keep differ in number (stochastic_depth: bernoulli), with
/// sync_batchnorm (whose ranks meet on the host), or where the module is missing; all but the first two are
/// logged.
/// A step that cannot be captured goes on kernel by kernel where there is one rank, with a warning; several
/// ranks must do the same, so there run() throws Error.
std::unique_ptr<StepGraph> make_step_graph(const config::StageConfig& stage, at::Device device,
                                           std::int64_t world_size);

/// How cosub_graph offers it: one C function, found by name.
constexpr const char* kStepGraphFactoryName = "cosub_make_step_graph";
using StepGraphFactory = void (*)(at::Device device, bool may_give_up, std::unique_ptr<StepGraph>& made);

}  // namespace cosub::train
