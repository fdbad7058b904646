// --which: what eval, export and trim read of a checkpoint.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>

#include "worker/train/export_model.h"

namespace cosub::tools {

void add_which(CLI::App& app, std::string& which);

/// train::load_model. `which`: ema, model, or empty for the average where the checkpoint keeps one.
/// ConfigError where ema is asked for by name and the checkpoint keeps none.
train::LoadedModel load_which(const std::filesystem::path& path, const std::string& which,
                              std::int64_t image_size_px = 0);

}  // namespace cosub::tools
