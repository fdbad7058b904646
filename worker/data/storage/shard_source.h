// Samples in tar shards, found by their index and read with one pread each.
#pragma once

#include <memory>

#include "worker/data/source.h"

namespace cosub::data {

/// Samples stand shard by shard in the order of config.shards. Opening touches the indexes alone, not the
/// shards; one that is gone, or has another size than the index says, makes its samples bad ones. At most 256
/// shards are open at a time. Errors as open_source; a label outside `classes` is named with its sample.
std::unique_ptr<Source> open_shard_source(const config::SourceConfig& config, std::int64_t channels,
                                          std::int64_t classes);

}  // namespace cosub::data
