// Where every sample of a set of tar shards lies: one file `shards.index` in the shards' folder, written by
// `cosub data index`, mapped read-only and so shared by all ranks of a host. 16 bytes a sample.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cosub {

inline constexpr std::string_view kShardIndexName = "shards.index";

struct SampleRecord {
  std::uint64_t offset = 0;  // of the image's bytes in its shard
  std::uint32_t size = 0;
  std::int32_t label = 0;
};
static_assert(sizeof(SampleRecord) == 16);

struct ShardEntry {
  std::string file;                    // name in the index's folder
  std::uint64_t file_size = 0;         // bytes
  std::int64_t modified_ns = 0;        // since 1970: whether it has to be looked at again
  std::uint64_t fingerprint = 0;       // of parts of its content, for a copy with another time
  std::uint64_t first = 0, count = 0;  // its records
  std::int32_t max_label = -1;
};

struct IndexContent {
  std::uint64_t labelling = 0;     // a hash of what its labels depend on besides the shards
  std::vector<ShardEntry> shards;  // by name
  const SampleRecord* records = nullptr;
};

/// An opened index; thread-safe. Its file must stay as it is (writers replace it as a whole).
class ShardIndex {
 public:
  /// DataError when it is missing, damaged or of another version; each message says to run `cosub data
  /// index`.
  static std::shared_ptr<const ShardIndex> open(const std::filesystem::path& file);
  ~ShardIndex();
  std::uint64_t labelling() const { return content_.labelling; }
  const std::vector<ShardEntry>& shards() const { return content_.shards; }
  std::span<const SampleRecord> records(const ShardEntry& shard) const {
    return {content_.records + shard.first, shard.count};
  }
  /// nullptr when there is none.
  const ShardEntry* find(std::string_view file) const;

 private:
  ShardIndex() = default;
  IndexContent content_;
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
};

}  // namespace cosub
