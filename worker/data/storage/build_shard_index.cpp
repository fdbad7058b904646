#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/atomic_file.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "worker/data/storage/class_map.h"
#include "worker/data/storage/in_threads.h"
#include "worker/data/storage/shard_index_file.h"
#include "worker/data/storage/tar.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostLabelBytes = 1 << 20;

/// A shard as the index will hold it.
struct IndexedShard {
  ShardEntry entry;
  std::vector<SampleRecord> records;
};

struct Key {
  std::string key, extension;
};

/// Up to the first dot of the last part, and what is behind it.
Key split_key(const std::string& name) {
  const std::size_t slash = name.rfind('/');
  const std::size_t base = slash == std::string::npos ? 0 : slash + 1;
  const std::size_t dot = name.find('.', base);
  if (dot == std::string::npos) return {name, ""};
  std::string extension = name.substr(dot + 1);
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return {name.substr(0, dot), extension};
}

bool is_image(const std::string& extension) {
  for (const char* known : {"jpg", "jpeg", "png", "ppm", "pgm"}) {
    if (extension == known) return true;
  }
  return false;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// Collects members until the key changes.
class Grouper {
 public:
  Grouper(std::string shard, const IndexOptions& options, const ClassMap& classes)
      : shard_(std::move(shard)), options_(options), classes_(classes) {}

  void take(const TarReader& tar, const TarMember& member) {
    Key key = split_key(member.name);
    if (key.key != key_) finish(), key_ = key.key;
    if (is_image(key.extension)) {
      if (image_) refuse("a second image, " + member.name);
      if (member.size > UINT32_MAX) refuse("an image of 4 GiB or more");
      image_ = SampleRecord{member.offset, static_cast<std::uint32_t>(member.size), 0};
    } else if (key.extension == "cls") {
      label_ = class_of(trimmed(tar.read(member, kMostLabelBytes)), classes_, where());
    } else if (key.extension == "json") {
      take_json(tar.read(member, kMostLabelBytes));
    }
  }

  std::vector<SampleRecord> end() {
    finish();
    return std::move(records_);
  }

 private:
  std::string where() const { return fmt::format("{}: {}", shard_, key_); }
  [[noreturn]] void refuse(const std::string& what) const {
    throw DataError(fmt::format("{}: {}", where(), what));
  }

  void take_json(const std::string& text) {
    const nlohmann::json parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) refuse("its json member is no JSON object");
    const auto field = parsed.find(options_.label_field);
    if (field == parsed.end()) return;
    json_label_ = field->is_string() ? class_of(field->get<std::string>(), classes_, where())
                                     : class_of(field->dump(), classes_, where());
  }

  void finish() {
    const std::optional<std::int64_t> label = label_ ? label_ : json_label_;
    if (image_ && !label) {
      refuse(fmt::format("an image without a label; expected a member {}.cls, or {}.json with a field '{}'",
                         key_, key_, options_.label_field));
    }
    if (label_ && !image_) refuse("a label without an image (.jpg, .jpeg, .png, .ppm or .pgm)");
    if (image_) {
      if (*label > INT32_MAX) refuse(fmt::format("label {} is too large", *label));
      image_->label = static_cast<std::int32_t>(*label);
      records_.push_back(*image_);
    }
    image_.reset();
    label_.reset();
    json_label_.reset();
  }

  std::string shard_;
  const IndexOptions& options_;
  const ClassMap& classes_;
  std::string key_;
  std::optional<SampleRecord> image_;
  std::optional<std::int64_t> label_, json_label_;
  std::vector<SampleRecord> records_;
};

ShardEntry stat_shard(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw io_error("read", path, errno);
  ShardEntry entry;
  entry.file = path.filename().string();
  entry.file_size = static_cast<std::uint64_t>(status.st_size);
  entry.modified_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return entry;
}

IndexedShard read_shard(const fs::path& path, ShardEntry entry, const IndexOptions& options,
                        const ClassMap& classes) {
  TarReader tar(path);
  Grouper grouper(path.string(), options, classes);
  for (TarMember member; tar.next(member);) grouper.take(tar, member);
  IndexedShard shard{std::move(entry), grouper.end()};
  if (shard.records.empty()) throw DataError(fmt::format("{}: no sample in it", path.string()));
  shard.entry.count = shard.records.size();
  shard.entry.max_label = std::ranges::max_element(shard.records, {}, &SampleRecord::label)->label;
  return shard;
}

/// What an earlier index says of the shards of a folder that are still there.
std::map<std::string, IndexedShard> earlier_shards(const fs::path& folder) {
  std::map<std::string, IndexedShard> shards;
  if (!fs::exists(folder / kShardIndexName)) return shards;
  std::shared_ptr<const ShardIndex> index;
  try {
    index = ShardIndex::open(folder / kShardIndexName);
  } catch (const DataError&) {
    return shards;  // it is about to be replaced
  }
  for (const ShardEntry& entry : index->shards()) {
    const auto records = index->records(entry);
    if (fs::exists(folder / entry.file)) shards[entry.file] = {entry, {records.begin(), records.end()}};
  }
  return shards;
}

bool is_unchanged(const ShardEntry& before, const ShardEntry& now) {
  return before.file_size == now.file_size && before.modified_ns == now.modified_ns;
}

void write_index(const fs::path& folder, const std::map<std::string, IndexedShard>& shards) {
  std::vector<ShardEntry> entries;
  for (const auto& [name, shard] : shards) entries.push_back(shard.entry);
  std::string content = index_head(entries);
  for (const auto& [name, shard] : shards) {
    content.append(reinterpret_cast<const char*>(shard.records.data()),
                   shard.records.size() * sizeof(SampleRecord));
  }
  write_file_atomically(folder / kShardIndexName, content);
}

/// a{00..12}b -> a00b, ..., a12b; a{x,y}b -> axb, ayb; the first braces only.
std::optional<std::vector<std::string>> expand_first_braces(const std::string& text) {
  const std::size_t open = text.find('{'), close = text.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return std::nullopt;
  const std::string before = text.substr(0, open), inside = text.substr(open + 1, close - open - 1),
                    after = text.substr(close + 1);
  std::vector<std::string> result;
  const std::size_t dots = inside.find("..");
  if (dots == std::string::npos) {
    for (std::size_t begin = 0; begin <= inside.size();) {
      const std::size_t end = std::min(inside.find(',', begin), inside.size());
      result.push_back(before + inside.substr(begin, end - begin) + after);
      begin = end + 1;
    }
    return result;
  }
  const std::string first = inside.substr(0, dots), last = inside.substr(dots + 2);
  const auto is_number = [](const std::string& digits) {
    return !digits.empty() && digits.size() < 10 &&
           digits.find_first_not_of("0123456789") == std::string::npos;
  };
  if (!is_number(first) || !is_number(last) || std::stol(first) > std::stol(last)) {
    throw DataError(fmt::format("{}: '{{{}}}' is no range; expected {{FIRST..LAST}} as in {{000000..002047}}",
                                text, inside));
  }
  for (long i = std::stol(first); i <= std::stol(last); ++i) {
    result.push_back(before + fmt::format("{:0{}}", i, first.size()) + after);
  }
  return result;
}

void expand_braces(const std::string& text, std::vector<fs::path>& paths) {
  const auto parts = expand_first_braces(text);
  if (!parts) {
    paths.emplace_back(text);
    return;
  }
  for (const std::string& part : *parts) expand_braces(part, paths);
}

}  // namespace

std::vector<fs::path> expand_shards(const std::vector<fs::path>& patterns) {
  std::vector<fs::path> named, shards;
  for (const fs::path& pattern : patterns) expand_braces(pattern.string(), named);
  for (const fs::path& path : named) {
    if (fs::is_directory(path)) {
      std::vector<fs::path> inside;
      for (const auto& entry : fs::directory_iterator(path)) {
        if (entry.path().extension() == ".tar") inside.push_back(entry.path());
      }
      if (inside.empty()) throw DataError(fmt::format("{}: no *.tar in this folder", path.string()));
      std::ranges::sort(inside);
      shards.insert(shards.end(), inside.begin(), inside.end());
    } else if (fs::exists(path)) {
      shards.push_back(path);
    } else {
      throw DataError(
          fmt::format("{}: no such shard; correct data.*.shards, or copy it there", path.string()));
    }
  }
  return shards;
}

IndexSummary build_shard_index(const std::vector<fs::path>& shards, const IndexOptions& options,
                               const std::function<void(std::int64_t)>& done) {
  const ClassMap classes = read_class_map(options.class_map);
  std::map<fs::path, std::map<std::string, IndexedShard>> folders;
  for (const fs::path& shard : shards)
    folders.try_emplace(shard.parent_path(), earlier_shards(shard.parent_path()));
  IndexSummary summary;
  std::mutex mutex;
  std::int64_t num_done = 0;
  in_threads(options.threads, shards.size(), [&](std::size_t i) {
    ShardEntry entry = stat_shard(shards[i]);
    std::unique_lock lock(mutex);
    auto& known = folders.at(shards[i].parent_path());
    const auto before = known.find(entry.file);
    const bool is_known =
        !options.again && before != known.end() && is_unchanged(before->second.entry, entry);
    if (!is_known) {
      lock.unlock();
      IndexedShard read = read_shard(shards[i], entry, options, classes);
      lock.lock();
      known[entry.file] = std::move(read);
      ++summary.shards_read;
    }
    const ShardEntry& now = known.at(entry.file).entry;
    ++summary.shards;
    summary.samples += static_cast<std::int64_t>(now.count);
    summary.max_label = std::max(summary.max_label, now.max_label);
    if (done) done(++num_done);
  });
  for (const auto& [folder, known] : folders) write_index(folder.empty() ? fs::path(".") : folder, known);
  return summary;
}

}  // namespace cosub::data
