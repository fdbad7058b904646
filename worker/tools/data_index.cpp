#include "worker/tools/data_index.h"

#include <fmt/format.h>

#include <cstdio>

#include "common/shard_list.h"
#include "worker/tools/progress_line.h"

namespace cosub::tools {

ExitCode run_data_index(const DataIndexOptions& options) {
  const std::vector<std::filesystem::path> shards = shards_to_index(options.shards);
  data::IndexSummary summary;
  double seconds = 0;
  {
    ProgressLine line("index");
    summary = data::build_shard_index(
        shards, options.index, [&](std::int64_t done, std::int64_t read, std::int64_t all) {
          line.show({.done = done, .of = all, .done_now = read, .unit = "shards"});
        });
    seconds = line.seconds();
  }
  fmt::print("{} samples in {} shards ({} read, {} unchanged); largest label {}; {:.1f} s\n", summary.samples,
             summary.shards, summary.shards_read, summary.shards - summary.shards_read, summary.max_label,
             seconds);
  for (const std::filesystem::path& shard : summary.empty) {
    fmt::print(stderr, "warning: {}: no sample in it\n", shard.string());
  }
  return ExitCode::kDone;
}

}  // namespace cosub::tools
