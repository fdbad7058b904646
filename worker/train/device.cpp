#include "worker/train/device.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "worker/data/nvjpeg_module.h"
#include "worker/kernels/kernels.h"
#include "worker/model/fused_attention.h"
#include "worker/train/agreement.h"
#include "worker/train/precision.h"

namespace cosub::train {

namespace {

void tell_what_is_missing(const kernels::Kernels* kernels) {
  if (kernels == nullptr) {
    spdlog::warn(
        "cosub's own CUDA kernels are missing (the build found no nvcc): steps take longer, and the "
        "host waits for the GPU in each");
  } else if (kernels->attention != nullptr && kernels->gelu_product == nullptr) {  // as on any Hopper
    spdlog::info(
        "the build had no CUTLASS (COSUB_WITH_CUTLASS): in bf16 an MLP's GELU takes passes of its own on "
        "this "
        "GPU");
  }
}

}  // namespace

DeviceChoice choose_device(collective::Communicator& ranks, const std::string& wanted) {
  DeviceChoice choice;
  choice.communicator = &ranks;
  if (wanted == "cpu") return choice;
  const bool missing = any_rank(ranks, !collective::gpu_present(), "looking for GPUs");
  if (missing && wanted == "auto") return choice;
  if (missing) {
    throw AgreedError(
        "device: cuda, but not every host has a GPU and its driver (/dev/nvidiactl, libcuda.so.1)",
        ExitCode::kBadInput, 0);
  }
  choice.nccl = collective::connect_nccl(ranks);
  choice.communicator = choice.nccl.get();
  const bool has_kernels = kernels::load_kernels();
  if (ranks.rank() == 0) tell_what_is_missing(has_kernels ? kernels::loaded_kernels() : nullptr);
  choice.device = c10::impl::VirtualGuardImpl(at::kCUDA).getDevice();  // connect_nccl has chosen it
  return choice;
}

void set_numerics(const config::StageConfig& stage) {
  set_product_precision(stage.precision);
  model::set_attention_backend(stage.attention,
                               stage.model.stochastic_depth == config::StochasticDepth::kBernoulli);
}

data::MakeDeviceDecoder choose_decoder(const config::DataConfig& data, at::Device device) {
  if (data.decode == config::Decode::kCpu) return nullptr;
  if (device.is_cpu()) {
    throw ConfigError(
        "data.decode: nvjpeg, but this stage runs on CPUs: device: auto, and not every host has a GPU and "
        "its "
        "driver. Use data.decode: cpu, or hosts with GPUs");
  }
  return data::nvjpeg_decoders(device);
}

}  // namespace cosub::train
