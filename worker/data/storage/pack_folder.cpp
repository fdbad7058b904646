#include "worker/data/storage/pack_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;  // of pack.json, and of the shards' content
constexpr const char* kDescription = "pack.json";
constexpr const char* kUnfinished = ".pack";

Json to_json(const ShardRecord& record) {
  return {{"as_they_are", record.as_they_are},
          {"reencoded", record.reencoded},
          {"pixels", record.pixels},
          {"bytes", record.bytes},
          {"bad", record.bad}};
}

/// nullopt when it is none: the shard is packed again then.
std::optional<ShardRecord> parse_record(const Json& json) {
  try {
    return ShardRecord{json.at("as_they_are"), json.at("reencoded"), json.at("pixels"), json.at("bad"),
                       json.at("bytes")};
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

Json parse(const std::string& text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

/// File names need not be UTF-8, JSON must be.
std::string text_of(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void create_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw io_error("create", folder, error.value());
}

/// "--quality 95, now 90" for each value that is not the same.
std::string differences(const Json& before, const Json& now) {
  std::string text;
  for (const auto& [group, values] : now.items()) {
    if (group == "given" || group == "format") continue;
    for (const auto& [name, value] : values.items()) {
      const Json was = before.contains(group) ? before[group].value(name, Json()) : Json();
      if (was == value) continue;
      text += fmt::format("{}{} {}, now {}", text.empty() ? "" : "; ", name, was.dump(), value.dump());
    }
  }
  return text;
}

}  // namespace

PackFolder::PackFolder(fs::path folder, const Json& options, std::int64_t num_shards)
    : folder_(std::move(folder)), description_(options), records_(num_shards) {
  description_["format"] = kFormat;
  create_folder(folder_);
  read_description();  // and refuse, before anything is written
  create_folder(folder_ / kUnfinished);
  const fs::path lock = lock_file();
  lock_ = FileLock::try_lock(lock, std::chrono::milliseconds(0));
  if (!lock_) {
    throw ConfigError(
        fmt::format("--output {}: {} packs into it just now; wait for it, or name another --output",
                    folder_.string(), FileLock::holder_of(lock)));
  }
  remove_stale_temporaries(folder_);
  remove_stale_temporaries(folder_ / kUnfinished);
  if (const std::optional<Json> begun = read_description()) {
    description_ = *begun;
    description_.erase("shards");
    read_records(*begun);
  } else {
    write_file_atomically(folder_ / kDescription, text_of(description_, 2));
  }
}

PackFolder::~PackFolder() {
  std::error_code ignored;  // a lock file that stays is in nobody's way
  fs::remove(lock_file(), ignored);
}

fs::path PackFolder::lock_file() const {
  return folder_ / kUnfinished / "lock";
}

std::optional<Json> PackFolder::read_description() const {
  const fs::path file = folder_ / kDescription;
  const std::optional<std::string> text = read_file_if_there(file);
  if (!text) {
    refuse_other_content();
    return std::nullopt;
  }
  Json begun = parse(*text);
  if (!begun.is_object() || begun.value("format", Json()) != kFormat) {
    throw ConfigError(fmt::format("{}: not as this program writes it; name another --output, or remove {}",
                                  file.string(), folder_.string()));
  }
  const std::string differing = differences(begun, description_);
  if (!differing.empty()) {
    throw ConfigError(
        fmt::format("{}: the folder was begun with {}. Say the former again to go on with it, "
                    "or name another --output",
                    file.string(), differing));
  }
  return begun;
}

void PackFolder::refuse_other_content() const {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name == kUnfinished || name.starts_with(kDescription)) continue;  // or a temporary of it
    throw ConfigError(
        fmt::format("--output {}: holds {}, but no {} of an earlier call; name a new or empty "
                    "folder",
                    folder_.string(), name, kDescription));
  }
}

void PackFolder::read_records(const Json& begun) {
  const Json shards = begun.value("shards", Json::array());
  for (std::int64_t shard = 0; shard < static_cast<std::int64_t>(records_.size()); ++shard) {
    std::optional<ShardRecord> record;
    if (shard < static_cast<std::int64_t>(shards.size())) record = parse_record(shards[shard]);
    if (const auto text = read_file_if_there(record_file(shard))) record = parse_record(parse(*text));
    if (record && is_intact(shard, *record)) records_[shard] = std::move(record);
  }
}

bool PackFolder::is_intact(std::int64_t shard, const ShardRecord& record) const {
  if (record.samples() == 0) return true;
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(folder_ / file_of(shard), error);
  return !error && bytes == record.bytes;
}

std::string PackFolder::file_of(std::int64_t shard) {
  return fmt::format("{:06}.tar", shard);
}

fs::path PackFolder::record_file(std::int64_t shard) const {
  return folder_ / kUnfinished / fmt::format("{:06}.json", shard);
}

fs::path PackFolder::temporary_of(std::int64_t shard) const {
  return temporary_beside(folder_ / kUnfinished / file_of(shard));
}

std::int64_t PackFolder::num_finished() const {
  return std::ranges::count_if(records_, [](const auto& record) { return record.has_value(); });
}

void PackFolder::commit(std::int64_t shard, TarWriter& tar, ShardRecord record) {
  if (record.samples() > 0) record.bytes = tar.finish();
  // First what it says, then the shard: without its record a shard does not count as finished.
  write_file_atomically(record_file(shard), text_of(to_json(record), -1));
  if (record.samples() > 0) tar.publish(folder_ / file_of(shard));
  records_[shard] = std::move(record);
}

void PackFolder::complete() {
  Json shards = Json::array();
  for (const auto& record : records_) shards.push_back(to_json(record.value()));
  description_["shards"] = std::move(shards);
  write_file_atomically(folder_ / kDescription, text_of(description_, 2));
  fs::remove_all(folder_ / kUnfinished);
}

}  // namespace cosub::data
