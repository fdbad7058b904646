// `cosub eval`: top-1, top-5 and loss of an exported model or a checkpoint on a set of images. One process,
// no MPI.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/exit_code.h"

namespace cosub::tools {

struct EvalOptions {
  std::filesystem::path weights;         // exported folder, checkpoint folder, or .safetensors file
  std::string which = "ema";             // of a checkpoint: ema | model
  std::filesystem::path images, labels;  // IDX files
  std::vector<std::string> keep;         // submodels: all, even, odd, first:N, last:N, 0,2,5
  std::int64_t limit = 0;                // first N images; 0: all
  std::int64_t image_size = 0;           // px; 0: the model's own
  std::int64_t threads = 1;
  bool json = false;  // one JSON object on stdout instead of a table
};

/// Prints the numbers to stdout. Throws what main maps to exit codes.
ExitCode run_eval(const EvalOptions& options);

}  // namespace cosub::tools
