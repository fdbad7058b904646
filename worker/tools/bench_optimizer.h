// `cosub bench optimizer`: what the update of the parameters and their moving average takes, without a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/exit_code.h"

namespace cosub::tools {

struct BenchOptimizerOptions {
  std::vector<std::string> optimizers = {"adamw"};
  std::int64_t parameters = 22'000'000;
  std::int64_t steps = 20;
  double ema = 0.9999;  // 0: none
  std::int64_t threads = 1;
  std::string device = "auto";
  std::filesystem::path json;
};

/// For each optimizer: seconds of an update and of the average after it, and the bytes that these must read
/// and write, over the seconds. ConfigError naming an optimizer that is not known. One rank.
ExitCode run_bench_optimizer(const BenchOptimizerOptions& options);

}  // namespace cosub::tools
