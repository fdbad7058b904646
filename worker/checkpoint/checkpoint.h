// Checkpoints that are there whole or not at all (layout: STAGE/checkpoints/step-000012000/).
//   model.safetensors       parameters and buffers, timm's names
//   ema.safetensors         the same, averaged (only with EMA)
//   optimizer-0.safetensors exp_avg.NAME, exp_avg_sq.NAME
//   state.json              counters, identity, whatever the trainer hands over
//   MANIFEST.json           size and XXH3-64 of every file above, and of itself
// Written into .step-S.attempt-N/, fsynced; then MANIFEST, fsynced; the fence checked; renamed (never onto an existing
// name); the parent fsynced; only then older ones pruned (fence: common/run_folder.h). Used by rank 0 alone unless said.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace cosub::checkpoint {

using Tensors = std::map<std::string, at::Tensor>;

struct Snapshot {
  std::int64_t step = 0;                     // optimizer steps done
  std::map<std::string, Tensors> files;      // "model", "ema", "optimizer-0" -> tensors (CPU, contiguous)
  nlohmann::json state;
};

class Store {
 public:
  /// `attempt` is what the fence must still name when a checkpoint is committed.
  Store(std::filesystem::path stage_folder, std::int64_t attempt, std::int64_t keep);

  /// Writes and commits; Error (kFailure) when a newer attempt holds the fence. Retries EIO, ESTALE and time-outs.
  /// A checkpoint of this step that is already there and whole is left as it is.
  void commit(const Snapshot& snapshot);

  /// The newest checkpoint that verifies. Damaged ones (content only) are renamed to NAME.damaged-K and named in the
  /// log. nullopt when there was none at all; DataError when there were some and none verifies.
  std::optional<Snapshot> load_newest();

  std::vector<std::int64_t> steps() const;   // committed, ascending

 private:
  std::filesystem::path stage_folder_;
  std::int64_t attempt_ = 0, keep_ = 0;
};

/// Reads and verifies one checkpoint folder; DataError naming file and what is wrong.
Snapshot read(const std::filesystem::path& folder);

/// Every file against MANIFEST; "" when whole, else what is wrong.
std::string verify(const std::filesystem::path& folder);

/// safetensors <-> tensors, for weights files, exports and checkpoints alike.
Tensors load_tensors(const std::filesystem::path& file);
void save_tensors(const std::filesystem::path& file, const Tensors& tensors,
                  const std::map<std::string, std::string>& metadata = {});

}  // namespace cosub::checkpoint
