// `cosub-worker model check`: whether the models of all stages of a pipeline can be built, before the days
// that lead to the stage that cannot. `cosub run` and `cosub submit` ask it, since they know no model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace cosub {

namespace tools {

/// What is wrong with the models of a pipeline, one problem a line with file, line, column and key; "" when
/// nothing is: names and model.arch, image sizes, drop rates with the stage's microbatch, the blocks of
/// submodels, whether weights of init.stage fit, and whether all of it fits this machine's memory (1 TiB
/// where other hosts train). Builds without memory for weights: milliseconds a model. ConfigError for a file
/// that is no pipeline.
std::string model_problems(const std::filesystem::path& file, const std::vector<std::string>& overrides);

}  // namespace tools

/// argv[0] is the subcommand's own name. Problems go to stdout. Returns an ExitCode.
int run_model_check(int argc, char** argv);

}  // namespace cosub
