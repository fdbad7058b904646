// The microbatch that made a step's loss or gradients infinite or not a number, and the weights that it met,
// as files that `cosub model step` reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "worker/data/loader.h"
#include "worker/model/model.h"
#include "worker/train/flat_state.h"
#include "worker/train/job.h"
#include "worker/train/recorded_step.h"
#include "worker/train/step.h"

namespace cosub::train {

/// A step that was not finite, and what computes it again. All references outlive the call.
struct NonFiniteStep {
  const Job& job;
  const model::Backbone& model;
  FlatState& state;  // the weights that are written
  TrainStep& step;
  std::int64_t number = 0, later_steps = 0;  // later_steps: that have changed the weights since, at most
  double lambda = 0;                         // cosub's in this step
  std::function<data::TrainLoader()> open_loader;  // of this rank's microbatches of the step
};

/// Collective. Runs the step's microbatches once more (every draw is keyed), writes the first that is not
/// finite to STAGE/non-finite/step-S-microbatch-M.safetensors, and tells in the log how to replay it. It is
/// help and no part of the run: what fails in it is a warning.
void explain_non_finite(const NonFiniteStep& suspect);

/// input [B, C, S, S], target [B, classes] as the model got them; kept.I (int64 [n]) and scale.I for each
/// branch that dropped rows; step and microbatch (int64); how it was computed as metadata. The file of an
/// attempt before this one is replaced. IoError when it cannot be written.
void write_microbatch(const std::filesystem::path& file, const data::Microbatch& batch,
                      const model::Pass& pass, const RecordedStep& recorded);
/// The command that computes it again from `file` and the weights beside it.
std::string replay_command(const std::filesystem::path& file);

}  // namespace cosub::train
