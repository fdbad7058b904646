// What lies in a stage's folder before one of its attempts starts: stage.yaml, the fence, the coordinator's
// address, the attempt's folder with its token. Called by the Supervisor after the intent is on record.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "coordinator/classify_exit.h"
#include "coordinator/state.h"
#include "launcher/backends/backend.h"

namespace cosub::coordinator {

struct LaunchOptions {
  std::filesystem::path worker_program;     // absolute
  std::vector<std::string> launcher_flags;  // for mpirun, from this coordinator's own configuration
};

/// Writes those files (IoError) and says what to start. Raises the fence: earlier attempts can commit nothing
/// any more.
launcher::LaunchSpec prepare_attempt(const PipelineState& pipeline, const std::string& stage,
                                     const AttemptState& attempt, const CoordinatorAddress& address,
                                     const LaunchOptions& options);

/// Takes the attempt's claim for this coordinator, which voids it for ever; false when a wrapper has it.
bool void_attempt(const std::filesystem::path& attempt_folder);

/// What can be seen of it now, exit.json read last where the wrapper is gone, so that no exit is overlooked.
AttemptObservation observe(const launcher::Backend& backend, const StageFolder& stage,
                           const AttemptState& attempt);

}  // namespace cosub::coordinator
