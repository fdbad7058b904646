// A folder of shards that only an index knows: the files hold nothing.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/atomic_file.h"
#include "common/shard_index_file.h"

namespace cosub::testing {

/// Writes `files`, empty, and an index of them with one sample each.
inline void write_indexed_shards(const std::filesystem::path& folder, const std::vector<std::string>& files) {
  std::filesystem::create_directories(folder);
  std::vector<ShardEntry> entries;
  std::string records;
  for (const std::string& file : files) {
    std::ofstream(folder / file);
    ShardEntry& entry = entries.emplace_back();
    entry.file = file;
    entry.count = 1;
    entry.max_label = 0;
    const SampleRecord record;
    records.append(reinterpret_cast<const char*>(&record), sizeof record);
  }
  write_file_atomically(folder / kShardIndexName, index_head(entries, 0) + records);
}

}  // namespace cosub::testing
