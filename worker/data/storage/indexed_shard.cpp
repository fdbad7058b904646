#include "worker/data/storage/indexed_shard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/descriptor.h"
#include "common/error.h"
#include "worker/data/storage/shard_fingerprint.h"
#include "worker/data/storage/tar.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostLabelBytes = 1 << 20;

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
  Grouper(std::string shard, const std::string& label_field, const ClassMap& classes)
      : shard_(std::move(shard)), label_field_(label_field), classes_(classes) {}

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
      json_ = tar.read(member, kMostLabelBytes);
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

  /// nullopt: it does not have the field.
  std::optional<std::int64_t> label_in_json(const std::string& text) const {
    const nlohmann::json parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) refuse("its json member is no JSON object");
    const auto field = parsed.find(label_field_);
    if (field == parsed.end()) return std::nullopt;
    if (field->is_string()) return class_of(field->get<std::string>(), classes_, where());
    return class_of(field->dump(), {}, where());  // a number is no name
  }

  void finish() {
    std::optional<std::int64_t> label = label_;
    if (image_ && !label && json_) label = label_in_json(*json_);
    if (image_ && !label) {
      refuse(fmt::format("an image without a label; expected a member {}.cls, or {}.json with a field '{}'",
                         key_, key_, label_field_));
    }
    if (label_ && !image_) refuse("a label without an image (.jpg, .jpeg, .png, .ppm or .pgm)");
    if (image_) {
      if (*label > INT32_MAX) refuse(fmt::format("label {} is too large", *label));
      image_->label = static_cast<std::int32_t>(*label);
      records_.push_back(*image_);
    }
    image_.reset();
    label_.reset();
    json_.reset();
  }

  std::string shard_;
  const std::string& label_field_;
  const ClassMap& classes_;
  std::string key_;
  std::optional<SampleRecord> image_;
  std::optional<std::int64_t> label_;
  std::optional<std::string> json_;
  std::vector<SampleRecord> records_;
};

}  // namespace

ShardEntry stat_shard(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw io_error("read", path, errno);
  ShardEntry entry;
  entry.file = path.filename().string();
  entry.file_size = static_cast<std::uint64_t>(status.st_size);
  entry.modified_ns = modified_ns_of(status);
  return entry;
}

IndexedShard read_shard(const fs::path& path, ShardEntry entry, const std::string& label_field,
                        const ClassMap& classes) {
  TarReader tar(path);
  Grouper grouper(path.string(), label_field, classes);
  bool is_empty = true;
  for (TarMember member; tar.next(member); is_empty = false) grouper.take(tar, member);
  IndexedShard shard{std::move(entry), grouper.end()};
  if (shard.records.empty() && !is_empty) {
    throw DataError(
        fmt::format("{}: no sample in it: none of its members is an image (.jpg, .jpeg, .png, .ppm or .pgm)",
                    path.string()));
  }
  shard.entry.count = shard.records.size();
  for (const SampleRecord& record : shard.records)
    shard.entry.max_label = std::max(shard.entry.max_label, record.label);
  shard.entry.fingerprint = fingerprint_of(path, open_file(path, O_RDONLY, "read"), shard.records);
  return shard;
}

}  // namespace cosub::data
