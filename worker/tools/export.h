// `cosub export`: a checkpoint as a folder that timm loads. One process, no MPI.
#pragma once

#include <filesystem>
#include <string>

#include "common/exit_code.h"

namespace cosub::tools {

struct ExportOptions {
  std::filesystem::path checkpoint;  // .../checkpoints/step-...
  std::filesystem::path output;      // must not exist
  std::string which;                 // ema | model; empty: ema where there is one
};

/// The absolute path of a folder that is to be written; ConfigError when it exists.
std::filesystem::path new_output_folder(const std::filesystem::path& output);

/// Prints where the model is, its SHA-256, and how to load it. Throws what main maps to exit codes.
ExitCode run_export(const ExportOptions& options);

}  // namespace cosub::tools
