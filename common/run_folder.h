// Where things lie in a run's folder, and the small files that processes share through it. Layout:
// docs/architecture.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace cosub {

/// Paths below runs/NAME/STAGE; nothing is created or checked.
struct StageFolder {
  std::filesystem::path root;
  std::filesystem::path stage_yaml() const { return root / "stage.yaml"; }  // config::StageFile
  std::filesystem::path attempts() const { return root / "attempts"; }
  std::filesystem::path attempt(std::int64_t n) const { return attempts() / std::to_string(n); }
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  std::filesystem::path fence() const { return root / "fence"; }  // highest attempt that may write
  std::filesystem::path coordinator() const { return root / "coordinator.json"; }  // CoordinatorAddress
  std::filesystem::path result() const { return root / "result.json"; }  // written by rank 0 when complete
  std::filesystem::path metrics_csv() const { return root / "metrics.csv"; }
  std::filesystem::path bad_samples() const { return root / "bad_samples.tsv"; }
  std::filesystem::path exported() const { return root / "model"; }  // config.json + model.safetensors
};

/// The stage's fence, 0 where there is none. Raised by the coordinator only, before an attempt starts.
std::int64_t read_fence(const StageFolder& stage);
void write_fence(const StageFolder& stage, std::int64_t attempt);  // IoError when it would go down

/// How a worker reaches its coordinator; re-read at every reconnect, since a restarted coordinator rewrites
/// it.
struct CoordinatorAddress {
  std::string address;          // host:port
  std::int64_t generation = 0;  // raised at every start of the coordinator
};
std::optional<CoordinatorAddress> read_coordinator(const StageFolder& stage);
void write_coordinator(const StageFolder& stage, const CoordinatorAddress& address);

}  // namespace cosub
