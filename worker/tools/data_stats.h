// `cosub data stats`: what a set of images looks like.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "common/exit_code.h"
#include "worker/data/set_stats.h"
#include "worker/tools/source_arguments.h"

namespace cosub::tools {

struct DataStatsOptions {
  SourceArguments source;
  data::StatsOptions stats;
  bool json = false;
};

void add_data_stats(CLI::App& data, std::function<ExitCode()>& chosen);

/// Prints a table, or one JSON object. Errors as data::collect_stats.
ExitCode run_data_stats(const DataStatsOptions& options);

/// `names`: of the classes by number, empty where there are none.
std::string stats_text(const data::SetStats& stats, const std::vector<std::string>& names);
std::string stats_json(const data::SetStats& stats, const std::vector<std::string>& names);

}  // namespace cosub::tools
