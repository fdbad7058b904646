// `cosub bench allreduce`: what the exchange of gradients takes, by size, through the communicator and the
// reductions that training uses.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/exit_code.h"

namespace cosub::tools {

struct BenchAllreduceOptions {
  std::int64_t from_bytes = 1024, to_bytes = std::int64_t{256} << 20;  // swept by factors of 4
  std::int64_t threads = 1;
  std::string device = "auto";
  std::filesystem::path json;
};

/// Collective. For each size and reduction (fast: buckets; ordered: one tree over microbatches, one a rank):
/// seconds of the slowest rank, algorithm bandwidth (bytes over seconds) and bus bandwidth (times 2 (n-1) /
/// n, what each link carries at the least). Every sum is checked. CollectiveError when one is wrong.
ExitCode run_bench_allreduce(const BenchAllreduceOptions& options);

}  // namespace cosub::tools
