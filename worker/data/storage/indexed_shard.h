// One tar shard as its index will hold it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/shard_index.h"
#include "worker/data/storage/class_map.h"

namespace cosub::data {

struct IndexedShard {
  ShardEntry entry;  // `first` is not set
  std::vector<SampleRecord> records;
};

/// Name, size and time of a shard; IoError when it cannot be looked at.
ShardEntry stat_shard(const std::filesystem::path& path);

/// `entry` of stat_shard completed, and where the samples are; none in a tar file without members. A sample
/// is the members that share a key; a label is in KEY.cls, or else in that field of KEY.json. DataError
/// (shard and key) on the first fault. Blocks while it reads all headers and labels.
IndexedShard read_shard(const std::filesystem::path& path, ShardEntry entry, const std::string& label_field,
                        const ClassMap& classes);

}  // namespace cosub::data
