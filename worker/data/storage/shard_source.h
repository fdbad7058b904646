// Samples in tar shards, found by their index and read with one pread each.
#pragma once

#include <memory>

#include "worker/data/source.h"

namespace cosub::data {

/// Samples stand shard by shard in the order of config.shards (list_shards). Opening reads the indexes alone
/// and looks whether the shards are there, all of which must be. One that goes away later, or is not what was
/// indexed (by its size, or by its fingerprint where its time is another), makes its samples bad ones. At
/// most 256 shards are open at a time. Errors as open_source; a label outside `classes` is named with its
/// sample.
std::unique_ptr<Source> open_shard_source(const config::SourceConfig& config, std::int64_t channels,
                                          std::int64_t classes);

}  // namespace cosub::data
