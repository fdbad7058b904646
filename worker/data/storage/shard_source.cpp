#include "worker/data/storage/shard_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/shard_list.h"
#include "worker/data/storage/shard_fingerprint.h"
#include "worker/data/storage/tar.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostOpenShards = 256;

struct Shard {
  fs::path path;
  std::shared_ptr<const ShardIndex> index;
  const ShardEntry* entry = nullptr;
  std::int64_t first = 0;  // of its samples, among all
};

/// Descriptors of the shards read last; who reads keeps its own alive.
class OpenShards {
 public:
  std::shared_ptr<const Descriptor> get(const Shard& shard) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = open_.find(&shard);
      if (found != open_.end()) return found->second;
    }
    auto opened = std::make_shared<const Descriptor>(open(shard));  // outside the lock: a slow file server
    check_time(shard, *opened);
    const std::lock_guard lock(mutex_);
    if (open_.emplace(&shard, opened).second) order_.push_back(&shard);
    if (order_.size() > kMostOpenShards) {
      open_.erase(order_.front());
      order_.pop_front();
    }
    return opened;
  }

  /// Opened anew for whoever asks next: a stale handle of a network file system (ESTALE) stays stale.
  void drop(const Shard& shard, const std::shared_ptr<const Descriptor>& failed) {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(&shard);
    if (found == open_.end() || found->second != failed) return;
    open_.erase(found);
    std::erase(order_, &shard);
  }

 private:
  static Descriptor open(const Shard& shard) {
    Descriptor file(::open(shard.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid() && (errno == ENOENT || errno == ENOTDIR || errno == EACCES)) {
      throw DataError(fmt::format("{}: the shard is gone or closed to this user: {}", shard.path.string(),
                                  std::strerror(errno)));
    }
    if (!file.valid()) throw io_error("read", shard.path, errno);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw io_error("read", shard.path, errno);
    if (static_cast<std::uint64_t>(status.st_size) != shard.entry->file_size) {
      throw DataError(fmt::format("{}: has {} bytes, its index says {}; run cosub data index again",
                                  shard.path.string(), status.st_size, shard.entry->file_size));
    }
    return file;
  }

  /// A copy has another time than the index says; its content must be what was indexed. Looked at once.
  void check_time(const Shard& shard, const Descriptor& file) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw io_error("read", shard.path, errno);
    if (modified_ns_of(status) == shard.entry->modified_ns) return;
    {
      const std::lock_guard lock(mutex_);
      if (copies_.contains(&shard)) return;
    }
    if (fingerprint_of(shard.path, file, shard.index->records(*shard.entry)) != shard.entry->fingerprint) {
      throw DataError(fmt::format("{}: was changed after its index was written; run cosub data index again",
                                  shard.path.string()));
    }
    const std::lock_guard lock(mutex_);
    copies_.insert(&shard);
  }

  std::mutex mutex_;
  std::set<const Shard*> copies_;  // found to be as they were indexed
  std::map<const Shard*, std::shared_ptr<const Descriptor>> open_;
  std::deque<const Shard*> order_;  // of opening
};

class ShardSource : public Source {
 public:
  ShardSource(std::vector<Shard> shards, std::int64_t size, std::int64_t channels)
      : shards_(std::move(shards)), size_(size), channels_(channels) {}
  std::int64_t size() const override { return size_; }
  std::int64_t channels() const override { return channels_; }
  std::int64_t label(std::int64_t index) const override { return record(index).label; }
  std::string name(std::int64_t index) const override;
  std::string place(std::int64_t index) const override;
  StoredImage read(std::int64_t index, ByteBuffer& buffer) const override;

 private:
  void check_record(std::int64_t index) const;
  std::shared_ptr<const Descriptor> open(std::int64_t index) const;
  const Shard& shard_of(std::int64_t index) const {
    return *std::prev(std::ranges::upper_bound(shards_, index, {}, &Shard::first));
  }
  const SampleRecord& record(std::int64_t index) const {
    const Shard& shard = shard_of(index);
    return shard.index->records(*shard.entry)[index - shard.first];
  }

  std::vector<Shard> shards_;
  std::int64_t size_, channels_;
  mutable OpenShards open_;
};

/// The index has no names; the shard itself has. Where it cannot be read the offset must do.
std::string ShardSource::name(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  try {
    const std::string name = TarReader::name_at(shard.path, record(index).offset);
    if (!name.empty()) return fmt::format("{}: {}", shard.path.string(), name);
  } catch (const Error&) {  // whoever asks for a name has another error to tell
  }
  return place(index);
}

std::string ShardSource::place(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  return fmt::format("{}: sample {} at byte {}", shard.path.string(), index - shard.first,
                     record(index).offset);
}

/// The index's table has a hash, its records have none: they are as many as samples.
void ShardSource::check_record(std::int64_t index) const {
  const ShardEntry& entry = *shard_of(index).entry;
  const SampleRecord& sample = record(index);
  const bool lies_inside = sample.offset <= entry.file_size && sample.size <= entry.file_size - sample.offset;
  if (lies_inside && sample.label >= 0 && sample.label <= entry.max_label) return;
  throw DataError(
      fmt::format("{}: the index says {} bytes, label {}, which does not fit its shard: it is "
                  "damaged; write it again with: cosub data index --again",
                  place(index), sample.size, sample.label));
}

/// The descriptor of its shard; what is wrong with that is wrong with all its samples.
std::shared_ptr<const Descriptor> ShardSource::open(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  try {
    return open_.get(shard);
  } catch (const DataError& error) {
    throw SharedDataError(
        fmt::format("sample {} at byte {} of {}", index - shard.first, record(index).offset, error.what()),
        fmt::format("{}; none of its {} samples can be read", error.what(), shard.entry->count));
  }
}

StoredImage ShardSource::read(std::int64_t index, ByteBuffer& buffer) const {
  const Shard& shard = shard_of(index);
  const SampleRecord& sample = record(index);
  check_record(index);
  const std::shared_ptr<const Descriptor> file = open(index);
  buffer.resize(sample.size, boost::container::default_init);
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t got = ::pread(file->get(), buffer.data() + done, buffer.size() - done,
                                static_cast<off_t>(sample.offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      open_.drop(shard, file);
      throw io_error("read", shard.path, error);
    }
    if (got == 0) {
      throw DataError(
          fmt::format("{}: ended at byte {}, inside a sample", shard.path.string(), sample.offset + done));
    }
    done += static_cast<std::size_t>(got);
  }
  return {std::span(buffer.data(), buffer.size()), std::nullopt};
}

std::vector<Shard> find_shards(const config::SourceConfig& config) {
  std::vector<Shard> shards;
  std::int64_t first = 0;
  for (const ListedShard& listed : require_shards(config.shards)) {
    shards.push_back({listed.path, listed.index, listed.entry, first});
    first += static_cast<std::int64_t>(listed.entry->count);
  }
  if (first == 0) {
    throw DataError(
        fmt::format("{}: no sample in these shards; correct data.*.shards", config.shards.front().string()));
  }
  return shards;
}

void check_labels(const ShardSource& source, const std::vector<Shard>& shards, std::int64_t classes) {
  for (const Shard& shard : shards) {
    if (shard.entry->max_label < classes) continue;
    const std::int64_t end =
        std::min(source.size(), shard.first + static_cast<std::int64_t>(shard.entry->count));
    for (std::int64_t i = shard.first; i < end; ++i) {
      if (source.label(i) < classes && source.label(i) >= 0) continue;
      throw DataError(fmt::format("{}: its label is {}; model.classes is {}, so labels are 0 to {}",
                                  source.name(i), source.label(i), classes, classes - 1));
    }
  }
}

}  // namespace

std::unique_ptr<Source> open_shard_source(const config::SourceConfig& config, std::int64_t channels,
                                          std::int64_t classes) {
  const std::vector<Shard> shards = find_shards(config);
  const std::int64_t found = shards.back().first + static_cast<std::int64_t>(shards.back().entry->count);
  if (config.limit > found) {
    throw DataError(
        fmt::format("data.*.shards: hold {} images; data.*.limit asks for {}. Lower it, or set 0 for all",
                    found, config.limit));
  }
  auto source = std::make_unique<ShardSource>(shards, config.limit > 0 ? config.limit : found, channels);
  check_labels(*source, shards, classes);
  return source;
}

}  // namespace cosub::data
