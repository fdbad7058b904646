// cosub-worker gradients: the reduced gradients of the step that follows a checkpoint, for comparing numbers
// of ranks, reductions or devices on one state. Collective: run it under mpirun with as many ranks as wanted.
#pragma once

#include <filesystem>

#include "common/exit_code.h"

namespace cosub::tools {

struct GradientsOptions {
  std::filesystem::path stage_yaml;  // STAGE/stage.yaml of the run
  std::filesystem::path checkpoint;  // .../checkpoints/step-...; its state is where the step starts
  std::filesystem::path output;      // safetensors file to write: one tensor a parameter, under timm's names
  std::string reduction;             // ordered | fast; empty: the stage's own
};

/// DataError when the checkpoint is damaged or of another run; IoError when the output exists already.
ExitCode run_gradients(const GradientsOptions& options);

}  // namespace cosub::tools
