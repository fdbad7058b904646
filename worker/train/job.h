// One attempt at one stage as this rank sees it: what every task needs. Built by stage_runner, lives as long
// as the task; the references outlive it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>

#include "common/config/pipeline.h"
#include "common/run_folder.h"
#include "worker/collective/communicator.h"
#include "worker/collective/side_channel/side_channel.h"
#include "worker/train/telemetry.h"

namespace cosub::train {

struct Job {
  config::StageFile file;
  StageFolder folder;
  std::int64_t attempt = 0;
  std::uint64_t stream = 0;                // stream_seed(seed, stage name)
  collective::Communicator& communicator;  // what the tensors travel on
  at::Device device = at::kCPU;
  Telemetry& telemetry;
  collective::SideChannel& side_channel;  // told where this rank is
  bool late_results = false;              // each step's are read while the next one runs

  const config::StageConfig& stage() const { return file.stage; }
  bool is_root() const { return communicator.rank() == 0; }
};

}  // namespace cosub::train
