#include "worker/tools/export.h"

#include <fmt/format.h>

#include <cstdio>

#include "common/error.h"
#include "worker/train/export_model.h"

namespace cosub::tools {

ExitCode run_export(const ExportOptions& options) {
  if (std::filesystem::exists(options.output)) {
    throw ConfigError(
        fmt::format("{} exists already: name another folder, or remove it", options.output.string()));
  }
  std::filesystem::path output = std::filesystem::absolute(options.output).lexically_normal();
  if (output.filename().empty()) output = output.parent_path();
  train::LoadedModel loaded = train::load_model(options.checkpoint, options.which);
  std::string sha256 = train::export_model(*loaded.model, loaded.timm_config, output);
  fmt::print("exported {}\n      to {}\n  sha256 {} (model.safetensors)\n", loaded.description,
             output.string(), sha256);
  fmt::print("    load timm.create_model(\"local-dir:{}\", pretrained=True)\n", output.string());
  return ExitCode::kDone;
}

}  // namespace cosub::tools
