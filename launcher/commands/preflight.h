// What can be checked before anything runs: that the data and weights a pipeline names are there, and the
// exact commands that would run. No side effects.
#pragma once

#include <string>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::commands {

/// One line a problem: key, path, what is wrong, remedy. Empty when all is there.
std::vector<std::string> missing_inputs(const config::PipelineConfig& pipeline);

/// The command of each stage's first attempt, shell-quoted, in file order: {stage, command}.
std::vector<std::pair<std::string, std::string>> stage_commands(const config::PipelineConfig& pipeline);

}  // namespace cosub::commands
