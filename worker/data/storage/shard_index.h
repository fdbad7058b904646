// Where every sample of a set of tar shards lies: one file `shards.index` in the shards' folder, written by
// `cosub data index`, mapped read-only and so shared by all ranks of a host. 16 bytes a sample.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cosub::data {

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
  std::int64_t modified_ns = 0;        // since 1970: whether it has to be read again
  std::uint64_t first = 0, count = 0;  // its records
  std::int32_t max_label = -1;
};

/// An opened index; thread-safe. Its file must stay as it is (writers replace it as a whole).
class ShardIndex {
 public:
  /// DataError when it is missing, damaged or of another version; each message says to run `cosub data
  /// index`.
  static std::shared_ptr<const ShardIndex> open(const std::filesystem::path& file);
  ~ShardIndex();
  const std::vector<ShardEntry>& shards() const { return shards_; }
  std::span<const SampleRecord> records(const ShardEntry& shard) const {
    return {records_ + shard.first, shard.count};
  }
  /// nullptr when there is none.
  const ShardEntry* find(std::string_view file) const;

 private:
  ShardIndex() = default;
  std::vector<ShardEntry> shards_;  // by name
  const SampleRecord* records_ = nullptr;
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
};

struct IndexOptions {
  std::filesystem::path class_map = {};  // names of classes, for labels that are names
  std::string label_field = "label";     // of KEY.json, where a sample has no KEY.cls
  std::int64_t threads = 1;
  bool again = false;  // read shards that have not changed as well
};

struct IndexSummary {
  std::int64_t shards = 0, shards_read = 0, samples = 0;
  std::int32_t max_label = -1;
};

/// Paths with {000..127} and {a,b} expanded, in order; a folder stands for the *.tar in it, by name.
/// DataError when one is not there.
std::vector<std::filesystem::path> expand_shards(const std::vector<std::filesystem::path>& patterns);

/// Reads the shards' headers and labels and writes the index of each folder they are in; shards of an earlier
/// index stay in it, unless they are gone. A sample is the members that share a key, the path up to the first
/// dot of its last part: one image (jpg, jpeg, png, ppm, pgm) and a label (cls, or the field of a json);
/// WebDataset's convention. DataError (shard and key) on a sample without image or label. `done(shards)`
/// after each, from several threads but one at a time.
IndexSummary build_shard_index(const std::vector<std::filesystem::path>& shards, const IndexOptions& options,
                               const std::function<void(std::int64_t)>& done);

}  // namespace cosub::data
