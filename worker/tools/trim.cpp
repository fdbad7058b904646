#include "worker/tools/trim.h"

#include <fmt/format.h>

#include <cstdio>

#include "common/error.h"
#include "worker/model/trim.h"
#include "worker/tools/eval.h"
#include "worker/tools/export.h"
#include "worker/tools/which_weights.h"

namespace cosub::tools {

ExitCode run_trim(const TrimOptions& options) {
  const std::filesystem::path output = new_output_folder(options.output);
  train::LoadedModel loaded = load_which(options.weights, options.which);
  const model::Pass pass = submodel_pass(loaded, options.keep, options.branch_scale);
  if (options.recalibrate_bn > 0) recalibrate(loaded, pass, options.recalibrate_bn, options.calibration);
  const auto trimmed = model::trim(*loaded.model, pass.keep_block, pass.block_scale);
  const nlohmann::json config = train::complete_timm_config(*trimmed, loaded.data);
  const std::string sha256 = train::export_model(*trimmed, config, output);
  fmt::print("trimmed {}\n  from {} to {} blocks, into {}\n  sha256 {} (model.safetensors)\n",
             loaded.description, loaded.model->seam().num_blocks(), trimmed->seam().num_blocks(),
             output.string(), sha256);
  fmt::print("    load timm.create_model(\"local-dir:{}\", pretrained=True)\n", output.string());
  return ExitCode::kDone;
}

}  // namespace cosub::tools
