// The folder that a data set is packed into, as far as it is finished: which options it was begun with and
// which shards are done. Killed at any instant, it says so of every shard that has its final name, and no
// other file has one.
//
//   pack.json        options and source; once all is done, what became of each shard
//   NNNNNN.tar       finished shards
//   .pack/           until all is done: NNNNNN.json of each finished shard, temporaries, the lock
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/file_lock.h"
#include "worker/data/storage/tar_writer.h"

namespace cosub::data {

/// What became of the samples of one shard.
struct ShardRecord {
  std::int64_t as_they_are = 0, reencoded = 0, pixels = 0;  // samples
  std::vector<std::string> bad;                             // left out: name and reason of each
  std::uint64_t bytes = 0;                                  // of its file; without a sample it has none
  std::int64_t samples() const { return as_they_are + reencoded + pixels; }
};

class PackFolder {
 public:
  /// Begins `folder`, or goes on with it when it was begun with the same `options` (an object per group of
  /// options: {"options": {"--seed": 0}, ...}; "given" is kept but not compared). ConfigError, naming what
  /// differs and what to do, when it was not, or holds something else, or another process packs into it just
  /// now (also one of another host, where the file system locks over hosts); IoError. Removes what a killed
  /// call left.
  PackFolder(std::filesystem::path folder, const nlohmann::ordered_json& options, std::int64_t num_shards);
  ~PackFolder();  // another process may pack into it
  PackFolder(const PackFolder&) = delete;
  PackFolder& operator=(const PackFolder&) = delete;

  static std::string file_of(std::int64_t shard);  // its name in the folder
  const std::filesystem::path& path() const { return folder_; }
  std::filesystem::path temporary_of(std::int64_t shard) const;
  /// nullopt: not there, or no longer as it was.
  const std::optional<ShardRecord>& finished(std::int64_t shard) const { return records_[shard]; }
  std::int64_t num_finished() const;

  /// Gives the shard its final name. Not for the same shard in two threads.
  void commit(std::int64_t shard, TarWriter& tar, ShardRecord record);
  /// When all are finished.
  void complete();

 private:
  std::filesystem::path lock_file() const;
  std::filesystem::path record_file(std::int64_t shard) const;
  bool is_intact(std::int64_t shard, const ShardRecord& record) const;
  /// nullopt: not begun.
  std::optional<nlohmann::ordered_json> read_description() const;
  void refuse_other_content() const;
  void read_records(const nlohmann::ordered_json& begun);

  std::filesystem::path folder_;
  std::optional<FileLock> lock_;
  nlohmann::ordered_json description_;
  std::vector<std::optional<ShardRecord>> records_;
};

}  // namespace cosub::data
