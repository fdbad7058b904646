// `cosub data order`: which sample goes to which step, microbatch and rank.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/exit_code.h"

namespace cosub::tools {

struct DataOrderOptions {
  std::filesystem::path pipeline;
  std::vector<std::string> overrides;
  std::string stage;  // empty: the first that trains
  std::int64_t first_step = 0, num_steps = 1;
  std::int64_t ranks = 0;  // 0: the pipeline's cluster.ranks
};

/// Prints one line per row of a microbatch. ConfigError on a stage that does not train or too many ranks.
ExitCode run_data_order(const DataOrderOptions& options);

}  // namespace cosub::tools
