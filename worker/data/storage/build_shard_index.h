// Writes the index of tar shards (common/shard_index.h): what `cosub data index` does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "common/shard_index.h"

namespace cosub::data {

struct IndexOptions {
  std::filesystem::path class_map = {};  // names of classes, for labels that are names
  std::string label_field = "label";     // of KEY.json, where a sample has no KEY.cls
  std::int64_t threads = 1;
  bool again = false;  // read shards that have not changed as well
};

struct IndexSummary {
  std::int64_t shards = 0, shards_read = 0, samples = 0;
  std::int32_t max_label = -1;
  std::vector<std::filesystem::path> empty;  // shards without a single member
};

/// Shards done, how many of them were read, of how many. From several threads, one at a time.
using IndexProgress = std::function<void(std::int64_t done, std::int64_t read, std::int64_t all)>;

/// Reads the shards' headers and labels and writes the index of each folder they are in; shards of an earlier
/// index stay in it, unless they are gone. All labels of an index follow the same options: where an earlier
/// one's did not, all of its shards are read again. A sample is the members that share a key, the path up to
/// the first dot of its last part: one image (jpg, jpeg, png, ppm, pgm) and a label (cls, or else the field
/// of a json); WebDataset's convention. `done(shards)` after each, from several threads but one at a time.
///
/// DataError, and nothing is written: the first fault (shard and key) of each shard that has one, such as a
/// sample without image or label. ConfigError when another process indexes one of the folders just now.
IndexSummary build_shard_index(const std::vector<std::filesystem::path>& shards, const IndexOptions& options,
                               const IndexProgress& progress);

}  // namespace cosub::data
