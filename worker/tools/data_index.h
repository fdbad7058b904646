// `cosub data index`: writes the index of tar shards.
#pragma once

#include <filesystem>
#include <vector>

#include "common/exit_code.h"
#include "worker/data/storage/build_shard_index.h"

namespace cosub::tools {

struct DataIndexOptions {
  std::vector<std::filesystem::path> shards;  // braces are expanded; a folder stands for its *.tar
  data::IndexOptions index;
};

/// Shows progress on a terminal, then a summary and, on stderr, the shards without samples. Errors as
/// data::build_shard_index.
ExitCode run_data_index(const DataIndexOptions& options);

}  // namespace cosub::tools
