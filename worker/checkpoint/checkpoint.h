// Checkpoints that are there whole or not at all (layout: STAGE/checkpoints/step-000012000/).
//   model.safetensors       parameters and buffers, timm's names
//   ema.safetensors         the same, averaged (only with EMA)
//   optimizer-0.safetensors exp_avg.NAME, exp_avg_sq.NAME
//   exchange-R.safetensors  lost.I.NAME: what rounding lost on rank R (only with exchange.error_feedback)
//   state.json              counters, identity, whatever the trainer hands over
//   MANIFEST.json           size and XXH3-64 of every file above, and of itself
// Written into .step-S.attempt-N/, fsynced; then MANIFEST, fsynced; the fence checked; renamed (never onto an
// existing name); the parent fsynced; only then older ones pruned (fence: common/run_folder.h). Used by rank
// 0 alone unless said.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace cosub::checkpoint {

using Tensors = std::map<std::string, at::Tensor>;

struct Snapshot {
  std::int64_t step = 0;                 // optimizer steps done
  std::map<std::string, Tensors> files;  // "model", "ema", "optimizer-0" -> tensors (CPU, contiguous)
  nlohmann::json state;
};

class Store {
 public:
  /// `attempt` is what the fence must still name when a checkpoint is committed.
  Store(std::filesystem::path stage_folder, std::int64_t attempt, std::int64_t keep);

  /// Writes, commits and prunes; blocks until all is on disk. Error (kFailure) when a newer attempt holds the
  /// fence; IoError, naming needed and free bytes, when there is no room; whatever fails, older checkpoints
  /// stay and no half one appears. Retries EIO, ESTALE and time-outs. A checkpoint of this step that is
  /// already there and whole is left as it is. Pruned are only whole ones older than this one, beyond the
  /// newest `keep` whole ones.
  void commit(const Snapshot& snapshot);

  /// The newest checkpoint that verifies. Damaged ones (content only) are renamed to NAME.damaged-K and named
  /// in the log; a stale attempt leaves them where they are. nullopt when there was none at all, damaged ones
  /// included; DataError, which lists each, when there were some and none verifies; IoError when reading goes
  /// on failing.
  std::optional<Snapshot> load_newest();

  std::vector<std::int64_t> steps() const;  // committed, ascending

 private:
  std::filesystem::path folder_of(std::int64_t step) const;
  void require_fence() const;
  void try_commit(const Snapshot& snapshot);
  void write(const Snapshot& snapshot, const std::filesystem::path& temporary) const;
  void remove_leftovers() const;
  void set_aside(const std::filesystem::path& folder, const std::string& problem) const;
  void prune(std::int64_t committed_step);
  bool is_whole(std::int64_t step, std::string& problem);

  std::filesystem::path stage_folder_, checkpoints_;
  std::int64_t attempt_ = 0, keep_ = 0;
  std::set<std::int64_t>
      whole_;  // steps that this object wrote or verified: they are not read again before pruning
};

/// Reads and verifies one checkpoint folder; DataError naming file and what is wrong.
Snapshot read(const std::filesystem::path& folder);

/// Every file against MANIFEST, and that against itself and the folder's name; "" when whole, else what is
/// wrong. Files that MANIFEST does not name are not looked at. IoError when something cannot be read just
/// now.
std::string verify(const std::filesystem::path& folder);

/// safetensors <-> tensors, for weights files, exports and checkpoints alike.
Tensors load_tensors(const std::filesystem::path& file);
void save_tensors(const std::filesystem::path& file, const Tensors& tensors,
                  const std::map<std::string, std::string>& metadata = {});

}  // namespace cosub::checkpoint
