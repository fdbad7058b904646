// Which tar shards the patterns of data.*.shards, or of a command, name. Everything here blocks on the file
// system, once a shard.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/shard_index.h"

namespace cosub {

/// A shard that is there, by the index of its folder.
struct ListedShard {
  std::filesystem::path path;
  std::shared_ptr<const ShardIndex> index;
  const ShardEntry* entry = nullptr;
};

struct ShardList {
  std::vector<ListedShard> shards;
  std::vector<std::string> problems;  // file, what is wrong with it, remedy
};

/// Shards to read samples from, in the order of the patterns (expand_braces). A folder stands for the *.tar
/// of its index, by name. What is not there, or in no index, is a problem. IoError when a file cannot be
/// looked at just now; DataError on wrong braces.
ShardList list_shards(const std::vector<std::filesystem::path>& patterns);

/// The same without problems: they are one DataError.
std::vector<ListedShard> require_shards(const std::vector<std::filesystem::path>& patterns);

/// Shards to write an index of: a folder stands for the *.tar that are in it, by name. DataError (all that
/// are not there, and wrong braces).
std::vector<std::filesystem::path> shards_to_index(const std::vector<std::filesystem::path>& patterns);

}  // namespace cosub
