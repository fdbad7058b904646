#include "worker/tools/data_index.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "common/shard_list.h"

namespace cosub::tools {

ExitCode run_data_index(const DataIndexOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::filesystem::path> shards = shards_to_index(options.shards);
  const bool shows_progress = ::isatty(STDERR_FILENO) != 0;
  const data::IndexSummary summary =
      data::build_shard_index(shards, options.index, [&](std::int64_t done, std::int64_t all) {
        if (shows_progress) fmt::print(stderr, "\r{} of {} shards", done, all);
      });
  if (shows_progress) fmt::print(stderr, "\r\033[K");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("{} samples in {} shards ({} read, {} unchanged); largest label {}; {:.1f} s\n", summary.samples,
             summary.shards, summary.shards_read, summary.shards - summary.shards_read, summary.max_label,
             seconds);
  for (const std::filesystem::path& shard : summary.empty) {
    fmt::print(stderr, "warning: {}: no sample in it\n", shard.string());
  }
  return ExitCode::kDone;
}

}  // namespace cosub::tools
