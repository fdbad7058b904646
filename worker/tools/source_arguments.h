// The options of a command that reads samples without a pipeline file.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>

#include "common/config/pipeline.h"

namespace cosub::tools {

/// Bad samples that a command names on the terminal; it counts the others.
inline constexpr std::size_t kMostNamed = 20;

struct SourceArguments {
  config::SourceConfig source;
  config::IdxSource idx;  // --images and --labels

  bool given() const { return source.given() || !idx.images.empty(); }
  /// ConfigError that names the options when there is not exactly one source, or a class map that changes
  /// nothing.
  config::SourceConfig get() const;
  /// The same for commands that show or keep names: a class map beside any source names its classes.
  config::SourceConfig get_named() const;
  std::string prefix = "--";
};

/// Adds --folder, --list, --shards, --images, --labels, --class-map and --limit, or, with another prefix than
/// "--", such as "--calibration-", --calibration-folder and so on. `arguments` must outlive the parsing.
void add_source(CLI::App& app, SourceArguments& arguments, const std::string& prefix = "--");

}  // namespace cosub::tools
