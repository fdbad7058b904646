#include "worker/data/storage/build_shard_index.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/file_lock.h"
#include "common/first_few.h"
#include "common/shard_index_file.h"
#include "worker/data/storage/class_map.h"
#include "worker/data/storage/in_threads.h"
#include "worker/data/storage/indexed_shard.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

/// Keeps other processes from indexing a folder.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder)
      : file_(folder / ".shards.index.lock"), lock_(FileLock::try_lock(file_, std::chrono::milliseconds(0))) {
    if (lock_) return;
    throw ConfigError(
        fmt::format("{}: {} indexes it just now; wait for it", folder.string(), FileLock::holder_of(file_)));
  }
  ~FolderLock() {
    std::error_code ignored;  // it is in nobody's way
    fs::remove(file_, ignored);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  fs::path file_;
  std::optional<FileLock> lock_;
};

/// A folder while it is indexed: first what an earlier index says of the shards that are still there.
class IndexedFolder {
 public:
  IndexedFolder(fs::path folder, std::uint64_t labelling)
      : folder_(std::move(folder)), lock_(folder_), labelling_(labelling) {
    if (!fs::exists(folder_ / kShardIndexName)) return;
    std::shared_ptr<const ShardIndex> index;
    try {
      index = ShardIndex::open(folder_ / kShardIndexName);
    } catch (const DataError&) {
      return;  // it is about to be replaced
    }
    is_labelled_otherwise_ = index->labelling() != labelling;
    for (const ShardEntry& entry : index->shards()) {
      const auto records = index->records(entry);
      if (fs::exists(folder_ / entry.file)) shards_[entry.file] = {entry, {records.begin(), records.end()}};
    }
  }

  const fs::path& path() const { return folder_; }
  bool is_labelled_otherwise() const { return is_labelled_otherwise_; }
  const std::map<std::string, IndexedShard>& shards() const { return shards_; }
  void put(IndexedShard shard) { shards_[shard.entry.file] = std::move(shard); }

  /// nullptr: it has to be read.
  const ShardEntry* unchanged(const ShardEntry& now) const {
    const auto before = shards_.find(now.file);
    if (is_labelled_otherwise_ || before == shards_.end()) return nullptr;
    const ShardEntry& entry = before->second.entry;
    return entry.file_size == now.file_size && entry.modified_ns == now.modified_ns ? &entry : nullptr;
  }

  void write() const {
    std::vector<ShardEntry> entries;
    for (const auto& [name, shard] : shards_) entries.push_back(shard.entry);
    std::string content = index_head(entries, labelling_);
    for (const auto& [name, shard] : shards_) {
      content.append(reinterpret_cast<const char*>(shard.records.data()),
                     shard.records.size() * sizeof(SampleRecord));
    }
    write_file_atomically(folder_ / kShardIndexName, content);
  }

 private:
  fs::path folder_;
  FolderLock lock_;
  std::uint64_t labelling_;
  bool is_labelled_otherwise_ = false;
  std::map<std::string, IndexedShard> shards_;  // by name
};

/// What the labels depend on besides the shards.
std::uint64_t labelling_of(const IndexOptions& options, const ClassMap& classes) {
  std::string text = options.label_field;
  for (const auto& [name, number] : classes) text += fmt::format("\n{} {}", number, name);
  return XXH3_64bits(text.data(), text.size());
}

/// One call of build_shard_index.
class Indexing {
 public:
  Indexing(const IndexOptions& options, const IndexProgress& progress)
      : options_(options),
        progress_(progress),
        classes_(read_class_map(options.class_map)),
        labelling_(labelling_of(options, classes_)) {}

  IndexSummary run(const std::vector<fs::path>& shards) {
    for (const fs::path& shard : shards) add(shard);
    for (auto& [path, folder] : folders_) {
      if (folder.is_labelled_otherwise()) add_others_of(folder);
    }
    faults_.resize(tasks_.size());
    in_threads(options_.threads, static_cast<std::int64_t>(tasks_.size()), [&](std::int64_t i) {
      try {
        look_at(tasks_[i]);
      } catch (const DataError& error) {
        faults_[i] = error.what();
        if (!tasks_[i].is_named) faults_[i] += kWhyOthers;
      }
    });
    std::erase(faults_, "");
    if (!faults_.empty()) throw DataError(first_few_lines(std::move(faults_)));
    for (const auto& [path, folder] : folders_) folder.write();
    std::ranges::sort(summary_.empty);
    return std::move(summary_);
  }

 private:
  static constexpr const char* kWhyOthers =
      " (read again because its index was written with another --class-map or --label-field; all its labels "
      "follow the same)";

  struct Task {
    fs::path shard;
    IndexedFolder* folder;
    bool is_named;
  };

  void add(const fs::path& shard) {
    const fs::path path = shard.has_parent_path() ? shard.parent_path() : fs::path(".");
    IndexedFolder& folder = folders_.try_emplace(fs::weakly_canonical(path), path, labelling_).first->second;
    if (named_.emplace(&folder, shard.filename()).second) tasks_.push_back({shard, &folder, true});
  }

  void add_others_of(IndexedFolder& folder) {
    for (const auto& [file, shard] : folder.shards()) {
      if (!named_.contains({&folder, file})) tasks_.push_back({folder.path() / file, &folder, false});
    }
  }

  void look_at(const Task& task) {
    const ShardEntry now = stat_shard(task.shard);
    std::unique_lock lock(mutex_);
    const ShardEntry* entry = options_.again ? nullptr : task.folder->unchanged(now);
    if (entry != nullptr) {
      count(task, *entry);
      return;
    }
    lock.unlock();
    IndexedShard read = read_shard(task.shard, now, options_.label_field, classes_);
    lock.lock();
    ++summary_.shards_read;
    count(task, read.entry);
    task.folder->put(std::move(read));
  }

  void count(const Task& task, const ShardEntry& entry) {
    ++summary_.shards;
    summary_.samples += static_cast<std::int64_t>(entry.count);
    summary_.max_label = std::max(summary_.max_label, entry.max_label);
    if (entry.count == 0) summary_.empty.push_back(task.shard);
    if (progress_) progress_(summary_.shards, summary_.shards_read, static_cast<std::int64_t>(tasks_.size()));
  }

  const IndexOptions& options_;
  const IndexProgress& progress_;
  const ClassMap classes_;
  const std::uint64_t labelling_;
  std::map<fs::path, IndexedFolder> folders_;  // by their one true name: a lock is had once
  std::set<std::pair<const IndexedFolder*, std::string>> named_;
  std::vector<Task> tasks_;
  std::vector<std::string> faults_;  // by task
  std::mutex mutex_;                 // of folders_ and summary_
  IndexSummary summary_;
};

}  // namespace

IndexSummary build_shard_index(const std::vector<fs::path>& shards, const IndexOptions& options,
                               const IndexProgress& progress) {
  return Indexing(options, progress).run(shards);
}

}  // namespace cosub::data
