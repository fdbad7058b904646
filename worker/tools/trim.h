// `cosub model trim`: a named submodel written as a model of its own, with fewer blocks, that timm loads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/exit_code.h"
#include "worker/tools/source_arguments.h"

namespace cosub::tools {

struct TrimOptions {
  std::filesystem::path weights, output;  // as eval's; the output folder must not exist
  std::string which;                      // of a checkpoint: ema | model; empty: ema where there is one
  std::string keep;                       // even, odd, first:N, last:N, 0,2,5
  std::string branch_scale = "1";         // 1 | train: folded into the last affine map of each branch
  std::int64_t recalibrate_bn = 0;        // images to estimate BatchNorm's statistics from; 0: as they are
  SourceArguments calibration;            // training images
};

/// Prints where the model is and how to load it. Throws what main maps to exit codes.
ExitCode run_trim(const TrimOptions& options);

}  // namespace cosub::tools
