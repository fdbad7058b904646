// Where a job computes and over what its tensors travel: CPU with MPI, or one GPU a rank with NCCL.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/data/device_decoder.h"

namespace cosub::train {

struct DeviceChoice {
  at::Device device = at::kCPU;
  collective::Communicator* communicator = nullptr;  // owned below, or the one passed in
  std::unique_ptr<collective::Communicator> nccl;
};

/// Collective. `wanted` is auto, cpu or cuda. auto takes GPUs when every rank sees one, otherwise CPUs for
/// all.
DeviceChoice choose_device(collective::Communicator& ranks, const std::string& wanted);

/// For the whole process, before the first step: how the stage wants float32 products and attention computed.
void set_numerics(const config::StageConfig& stage);

/// What decodes training images on `device`; null: the loader's threads do. ConfigError where data.decode
/// wants a GPU and the stage runs on CPUs; errors as nvjpeg_decoders.
data::MakeDeviceDecoder choose_decoder(const config::DataConfig& data, at::Device device);

}  // namespace cosub::train
