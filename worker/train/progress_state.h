// What a training stage has done so far besides the tensors, as kept in a checkpoint's state.json, and the
// check that a checkpoint belongs to the run that wants to go on from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "common/config/pipeline.h"

namespace cosub::train {

/// Sums of the log interval that is under way.
struct IntervalSums {
  std::int64_t steps = 0;
  double loss = 0;
  double correct = 0;
  std::int64_t images = 0;
};

struct TrainingProgress {
  std::int64_t step = 0;  // optimizer steps done
  IntervalSums interval;
  std::int64_t images = 0;
  std::int64_t skipped_steps = 0;     // that were not finite and left out
  std::int64_t skipped_in_a_row = 0;  // of them, the newest, with none between them or after them that counts
  std::set<std::int64_t> bad_samples;  // of the training set, that could not be decoded
  double val_top1 = -1;                // newest; -1: none yet
  std::int64_t val_step = -1;          // after which it was measured
  double best_val_top1 = -1;
  double seconds = 0;  // spent training, all attempts
};

/// Which samples a run trains on, in which order.
struct TrainingSet {
  std::int64_t size = 0;
  std::string identity;  // data::identity_of: other labels, names or shards have another one
};

/// state.json of a checkpoint: progress, what the numbers of the run depend on, and the model's description
/// in timm's config.json format (`model_config`), so that the folder alone is enough to build the model
/// again.
nlohmann::json to_state(const TrainingProgress& progress, const config::StageFile& file,
                        const TrainingSet& set, const nlohmann::json& model_config);

/// DataError naming what differs (threads, microbatches, seed, the training set, reduction, or the lines of
/// the config) when the checkpoint was made by another run than this one; `where` names the checkpoint.
TrainingProgress from_state(const nlohmann::json& state, const config::StageFile& file,
                            const TrainingSet& set, const std::string& where);

}  // namespace cosub::train
