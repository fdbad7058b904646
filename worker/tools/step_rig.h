// A training step without data: the model, optimizer, average and TrainStep of a stage, on random images.
// What `cosub bench step` and the memory checks run. Collective: each rank makes one and calls run together.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/data/microbatch.h"
#include "worker/model/model.h"
#include "worker/train/ema.h"
#include "worker/train/flat_state.h"
#include "worker/train/optimizer.h"
#include "worker/train/step.h"

namespace cosub::tools {

class StepRig {
 public:
  /// stage: model, cosub, optimizer, ema, precision, threads, batch.micro, reduction and exchange;
  /// batch.global becomes `accumulate` microbatches a rank. Weights are drawn from `seed`, or read from a
  /// safetensors file where `weights` names one. Inputs are drawn from `seed` and the microbatch's index.
  /// late_results: for run_ahead. ConfigError, DataError.
  StepRig(config::StageConfig stage, std::int64_t accumulate, std::uint64_t seed,
          const std::filesystem::path& weights, collective::Communicator& communicator, at::Device device,
          bool late_results = false);

  /// The next step, from 0. Returns when the device has done it.
  train::StepOutcome run();
  /// With late_results, as a stage on a GPU runs: the next step is queued, then the one before waited for,
  /// whose outcome this is; nothing where there was none.
  std::optional<train::StepOutcome> run_ahead();
  train::StepOutcome last();  // after run_ahead: of that step, waited for

  train::PhaseSeconds take_phases() { return clock_.take(); }  // seconds by train::Phase, since last taken
  double take_exchange_seconds() { return step_->take_exchange_seconds(); }

  /// The rows that each branch keeps of this rank's microbatch `own` in a step.
  model::Pass pass_for(std::int64_t step, std::int64_t own) const;
  /// What every step trains on: images [B, C, S, S], targets [B, classes], one hot.
  const std::vector<data::Microbatch>& microbatches() const { return microbatches_; }
  std::int64_t images_per_step() const { return stage_.batch.global; }  // over all ranks
  bool overlaps() const { return step_->overlaps(); }
  std::int64_t parameter_bytes() const;  // of which a step exchanges as many of gradients
  const config::StageConfig& stage() const { return stage_; }
  model::Backbone& model() { return *model_; }

 private:
  data::Microbatch draw(std::int64_t index, std::uint64_t seed) const;

  config::StageConfig stage_;
  at::Device device_;
  bool late_results_;
  std::shared_ptr<model::Backbone> model_;
  std::optional<train::FlatState> state_;
  std::unique_ptr<train::Optimizer> optimizer_;
  std::optional<train::Ema> ema_;
  train::PhaseClock clock_;
  std::optional<train::TrainStep> step_;
  std::vector<data::Microbatch> microbatches_;
  std::int64_t next_step_ = 0;
};

}  // namespace cosub::tools
