// The microbatch that made a step's loss or gradients infinite or not a number, and the weights that it met,
// as files that `cosub model step` reads.
#pragma once

#include <filesystem>
#include <optional>

#include "worker/data/loader.h"
#include "worker/train/recorded_step.h"
#include "worker/train/step.h"

namespace cosub::train {

/// STAGE/non-finite/step-S-microbatch-M.safetensors
std::filesystem::path non_finite_file(const std::filesystem::path& stage_folder, std::int64_t step,
                                      std::int64_t microbatch);

/// Collective only with sync_batchnorm. Runs this rank's microbatches of the step once more, `loader` giving
/// them, and returns the first that is not finite by itself.
std::optional<data::Microbatch> first_non_finite(TrainStep& step, data::TrainLoader& loader);

/// Collective: whether this rank found the one with the lowest index of all ranks; false everywhere where
/// there is none.
bool is_lowest(collective::Communicator& communicator, const std::optional<data::Microbatch>& found);

/// input [B, C, S, S], target [B, classes] as the model got them; kept.I (int64 [n]) and scale.I for each
/// branch that dropped rows; step and microbatch (int64); how it was computed as metadata. The file of an
/// attempt before this one is replaced. IoError when it cannot be written; so write_weights.
void write_microbatch(const std::filesystem::path& file, const data::Microbatch& batch,
                      const model::Pass& pass, const RecordedStep& recorded);
/// To ...-model.safetensors beside `file`.
void write_weights(const std::filesystem::path& file, FlatState& state);

/// The command that computes it again.
std::string replay_command(const std::filesystem::path& file);

}  // namespace cosub::train
