// The commands below `cosub bench`, on the command line of cosub-worker.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "common/exit_code.h"

namespace cosub::tools {

/// Adds `bench` and its subcommands; the one that is chosen leaves its work in `chosen`.
void add_bench_commands(CLI::App& app, std::function<ExitCode()>& chosen);

}  // namespace cosub::tools
