// One attempt at one stage on this rank: connects the ranks, reads stage.yaml, sets up device, threads and
// telemetry, runs the stage's task. Called once by main.
#pragma once

#include <filesystem>
#include <string>

#include "common/exit_code.h"

namespace cosub::train {

struct RunOptions {
  std::filesystem::path stage_yaml;
  std::filesystem::path attempt_folder;  // STAGE/attempts/N; empty: nobody supervises this run
};

/// Collective over the job. Errors that all ranks know of end the job in order; any other ends every rank at
/// once. Returns the exit code; every error has been logged and recorded (error-rank-K.json).
ExitCode run_stage(const RunOptions& options);

/// This rank by the launcher's environment, before MPI is there; 0 when started alone.
int rank_from_environment();
bool started_by_mpi();

}  // namespace cosub::train
