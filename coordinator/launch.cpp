#include "coordinator/launch.h"

#include <fmt/format.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"

namespace cosub::coordinator {
namespace {

using launcher::Liveness;

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError(fmt::format("{}: cannot create it: {}", folder.string(), error.message()));
}

/// A damaged exit.json (the disk's doing: it is written atomically) is an end like any other failure.
std::optional<launcher::ExitRecord> exit_of(const std::filesystem::path& folder) {
  try {
    return launcher::read_exit(folder);
  } catch (const DataError& damaged) {
    launcher::ExitRecord record;
    record.exit_code = static_cast<int>(ExitCode::kFailure);
    record.reason = damaged.what();
    return record;
  }
}

ClaimOwner claim_of(const std::filesystem::path& folder) {
  const auto claim = launcher::read_claim(folder);
  if (!claim) return ClaimOwner::kNobody;
  return claim->owner == "coordinator" ? ClaimOwner::kCoordinator : ClaimOwner::kWrapper;
}

}  // namespace

launcher::LaunchSpec prepare_attempt(const PipelineState& pipeline, const std::string& stage,
                                     const AttemptState& attempt, const CoordinatorAddress& address,
                                     const LaunchOptions& options) {
  const StageFolder folder = pipeline.stage_folder(stage);
  const std::filesystem::path attempt_folder = folder.attempt(attempt.number);
  make_folder(attempt_folder);

  config::StageFile file;
  file.pipeline = pipeline.name;
  file.seed = pipeline.config.seed;
  file.stage_folder = folder.root;
  file.stage = pipeline.stage_config(stage);
  if (!file.stage.init.stage.empty()) file.init_folder = pipeline.stage_folder(file.stage.init.stage).root;
  write_file_atomically(folder.stage_yaml(), config::to_yaml(file));
  write_file_atomically(attempt_folder / "token", attempt.token + "\n", 0600);
  write_coordinator(folder, address);
  write_fence(folder, attempt.number);

  launcher::LaunchSpec spec;
  spec.uuid = attempt.uuid;
  spec.attempt = attempt.number;
  spec.attempt_folder = attempt_folder;
  spec.worker_argv = {options.worker_program.string(), "run", folder.stage_yaml().string(),
                      "--attempt-folder", attempt_folder.string()};
  spec.ranks = pipeline.config.cluster.ranks;
  spec.hosts = pipeline.config.cluster.hosts;
  spec.environment = {{"COSUB_ATTEMPT", attempt.uuid},
                      {"OMP_NUM_THREADS", std::to_string(file.stage.threads)},
                      {"OMP_WAIT_POLICY", "passive"}};
  spec.grace = pipeline.config.cluster.grace;
  spec.launcher_flags = options.launcher_flags;
  return spec;
}

bool void_attempt(const std::filesystem::path& attempt_folder) {
  make_folder(attempt_folder);
  launcher::Claim claim;
  claim.owner = "coordinator";
  claim.host = host_name();
  claim.boot_id = boot_id();
  claim.process = {getpid(), start_time_of(getpid()).value_or(0)};
  return launcher::take_claim(attempt_folder, claim);
}

AttemptObservation observe(const launcher::Backend& backend, const StageFolder& stage,
                           const AttemptState& attempt) {
  const std::filesystem::path folder = stage.attempt(attempt.number);
  AttemptObservation seen;
  seen.claim = claim_of(folder);
  seen.exit = exit_of(folder);
  if (!seen.exit) {
    // Our own claim names us, who are alive: it says nothing about a wrapper, which it has kept from running.
    seen.liveness =
        seen.claim == ClaimOwner::kCoordinator ? Liveness::kGone : backend.probe(folder, attempt.uuid);
    // Right after exec a process shows neither claim nor environment: our own handle knows better.
    if (seen.liveness == Liveness::kGone && seen.claim == ClaimOwner::kNobody && is_alive(attempt.wrapper))
      seen.liveness = Liveness::kRunning;
    if (seen.liveness == Liveness::kGone) {
      seen.exit = exit_of(folder);
      seen.claim = claim_of(folder);
    }
  }
  if (!seen.exit && seen.liveness == Liveness::kRunning) return seen;
  seen.checkpoint_step = newest_checkpoint(stage);
  try {
    seen.result = read_result(stage.result());
  } catch (const DataError& damaged) {
    seen.result_problem = damaged.what();
  }
  return seen;
}

}  // namespace cosub::coordinator
