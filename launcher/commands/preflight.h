// What can be checked before anything runs: that the data and weights a pipeline names are there, that every
// stage's model can be built, and the exact commands that would run. No side effects.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::commands {

/// One line a problem: key, path, what is wrong, remedy. Empty when all is there.
std::vector<std::string> missing_inputs(const config::PipelineConfig& pipeline);

struct ModelCheck {
  std::vector<std::string> problems;  // one line each: file, line, column, key, what is wrong
  std::string skipped;                // why nobody knows; "" when it was checked
};
/// Asks `worker` (cosub-worker, which knows the models) about every stage of the pipeline. Blocks for as long
/// as LibTorch takes to load, half a second, and at most a minute.
ModelCheck check_models(const std::filesystem::path& worker, const std::filesystem::path& file,
                        const std::vector<std::string>& overrides);

/// Both, for the pipeline that was loaded from `file`: ConfigError with all problems; a line on stderr where
/// the models could not be checked.
void require_ready(const config::PipelineConfig& pipeline, const std::filesystem::path& file,
                   const std::vector<std::string>& overrides);

/// The command of each stage's first attempt, shell-quoted, in file order: {stage, command}.
std::vector<std::pair<std::string, std::string>> stage_commands(const config::PipelineConfig& pipeline);

}  // namespace cosub::commands
