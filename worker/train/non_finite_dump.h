// The microbatch that made a step's loss or gradients infinite or not a number, and the weights that it met,
// as files that `cosub model step` reads.
#pragma once

#include <filesystem>

#include "worker/data/loader.h"
#include "worker/train/step.h"

namespace cosub::train {

/// STAGE/non-finite/step-S-microbatch-M.safetensors
std::filesystem::path non_finite_file(const std::filesystem::path& stage_folder, std::int64_t step,
                                      std::int64_t microbatch);

/// input [B, C, S, S], target [B, classes] as the model got them; kept.I (int64 [n]) and scale.I for each
/// branch that dropped rows; step and microbatch (int64). IoError when it cannot be written.
void write_microbatch(const std::filesystem::path& file, const data::Microbatch& batch,
                      const model::Pass& pass);

/// Collective only with sync_batchnorm. Runs this rank's microbatches of the step once more, `loader` giving
/// them, and writes the first that is not finite by itself, and the weights beside it
/// (...-model.safetensors). Returns its file, empty where there is none.
std::filesystem::path dump_non_finite(TrainStep& step, FlatState& state, data::TrainLoader& loader,
                                      const std::filesystem::path& stage_folder);

}  // namespace cosub::train
