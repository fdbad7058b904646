// --arch KEY=VALUE: overrides of a named model on the command line, and what is wrong with them said of that
// option.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "common/error.h"

namespace cosub::tools {

CLI::Option* add_arch(CLI::App& app, std::vector<std::string>& entries);

/// Puts the entries into config.arch; config.name is set. ConfigError naming key, value and what is allowed,
/// which for a key is what the model's family knows.
void set_arch(config::ModelConfig& config, const std::vector<std::string>& entries);

/// "model.arch.depth: ..." as "--arch depth: ...".
std::string said_of_arch_option(std::string message);

/// What `build` returns: it builds a model whose overrides all come from the option.
template <class Build>
auto with_arch_option(const Build& build) {
  try {
    return build();
  } catch (const ConfigError& error) {
    throw ConfigError(said_of_arch_option(error.what()));
  }
}

}  // namespace cosub::tools
