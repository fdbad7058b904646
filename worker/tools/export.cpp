#include "worker/tools/export.h"

#include <fmt/format.h>

#include <cstdio>

#include "common/error.h"
#include "worker/tools/which_weights.h"
#include "worker/train/export_model.h"

namespace cosub::tools {

std::filesystem::path new_output_folder(const std::filesystem::path& output) {
  if (std::filesystem::exists(output)) {
    throw ConfigError(fmt::format("{} exists already: name another folder, or remove it", output.string()));
  }
  const std::filesystem::path folder = std::filesystem::absolute(output).lexically_normal();
  return folder.filename().empty() ? folder.parent_path() : folder;
}

ExitCode run_export(const ExportOptions& options) {
  const std::filesystem::path output = new_output_folder(options.output);
  train::LoadedModel loaded = load_which(options.checkpoint, options.which);
  std::string sha256 = train::export_model(*loaded.model, loaded.timm_config, output);
  fmt::print("exported {}\n      to {}\n  sha256 {} (model.safetensors)\n", loaded.description,
             output.string(), sha256);
  fmt::print("    load timm.create_model(\"local-dir:{}\", pretrained=True)\n", output.string());
  return ExitCode::kDone;
}

}  // namespace cosub::tools
