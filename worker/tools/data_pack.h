// `cosub data pack`: writes a set of images as tar shards with their index.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "common/exit_code.h"
#include "worker/data/pack_shards.h"
#include "worker/tools/source_arguments.h"

namespace cosub::tools {

struct DataPackOptions {
  SourceArguments source;
  data::PackOptions pack;
};

void add_data_pack(CLI::App& data, std::function<ExitCode()>& chosen);

/// Shows progress on a terminal, then what was written and how a pipeline names it. Errors as
/// data::pack_shards; DataError when more than max_bad_share is bad.
ExitCode run_data_pack(const DataPackOptions& options);

}  // namespace cosub::tools
