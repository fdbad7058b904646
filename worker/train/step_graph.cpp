#include "worker/train/step_graph.h"

#include <spdlog/spdlog.h>

#include "common/module.h"
#include "worker/kernels/kernels.h"

namespace cosub::train {
namespace {

/// "" where nothing stands against it.
std::string obstacle(const config::StageConfig& stage) {
  if (stage.model.stochastic_depth == config::StochasticDepth::kBernoulli)
    return "stochastic_depth: bernoulli keeps another number of rows in each step";
  if (stage.sync_batchnorm > 1) return "the ranks of sync_batchnorm meet within the step";
  if (kernels::loaded_kernels() == nullptr)
    return "without cosub's own kernels the host reads numbers within the step";
  const std::filesystem::path module = module_path("cosub_graph");
  return std::filesystem::exists(module) ? "" : module.string() + " is missing (-DCOSUB_WITH_CUDA=ON)";
}

}  // namespace

std::unique_ptr<StepGraph> make_step_graph(const config::StageConfig& stage, at::Device device,
                                           std::int64_t world_size) {
  if (device.is_cpu() || !stage.cuda_graph) return nullptr;
  if (const std::string reason = obstacle(stage); !reason.empty()) {
    spdlog::info("no CUDA graph: {}", reason);
    return nullptr;
  }
  std::unique_ptr<StepGraph> made;
  void* const factory = load_function(module_path("cosub_graph"), kStepGraphFactoryName);
  reinterpret_cast<StepGraphFactory>(factory)(device, /*may_give_up=*/world_size == 1, made);
  return made;
}

}  // namespace cosub::train
