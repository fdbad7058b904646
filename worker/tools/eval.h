// `cosub eval`: top-1, top-5 and loss of an exported model or a checkpoint on a set of images. One process,
// no MPI.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/exit_code.h"
#include "worker/tools/source_arguments.h"
#include "worker/train/export_model.h"

namespace cosub::tools {

struct EvalOptions {
  std::filesystem::path weights;  // exported folder, checkpoint folder, or .safetensors file
  std::string which;              // of a checkpoint: ema | model; empty: ema where there is one
  SourceArguments source;
  std::vector<std::string> keep;                   // submodels: all, even, odd, first:N, last:N, 0,2,5
  std::vector<std::string> branch_scales = {"1"};  // of submodels: 1, train
  std::int64_t recalibrate_bn =
      0;  // images to estimate BatchNorm's statistics from, for each submodel; 0: as they are
  SourceArguments calibration;  // training images
  std::int64_t image_size = 0;  // px; 0: the model's own
  double crop_ratio = 0;        // 0: the model's own
  std::int64_t threads = 1;
  bool json = false;  // one JSON object on stdout instead of a table
};

/// The submodel that `keep` names, its branches scaled by 1 or as in "train"ing.
model::Pass submodel_pass(const train::LoadedModel& loaded, const std::string& keep,
                          const std::string& branch_scale);

/// train::recalibrate_batch_norm on the first images of `calibration`; ConfigError where it is not given.
void recalibrate(train::LoadedModel& loaded, const model::Pass& pass, std::int64_t num_images,
                 const SourceArguments& calibration);

/// Prints the numbers to stdout. Throws what main maps to exit codes.
ExitCode run_eval(const EvalOptions& options);

}  // namespace cosub::tools
