#include "worker/checkpoint/manifest.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "common/atomic_file.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/folder_names.h"

namespace cosub::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFormat = "cosub-checkpoint-1";

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(const json& manifest) {
  return manifest.dump(2) + "\n";
}

std::string own_hash(json manifest) {
  manifest.erase("xxh3");
  return xxh3_hex(bytes_of(text_of(manifest)));
}

/// Size of a regular file. DataError when nothing or something else is there, IoError when that cannot be
/// told.
std::uint64_t size_of_file(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw DataError(path.filename().string() + " is missing");
    throw io_error("look at", path, errno);
  }
  if (!S_ISREG(status.st_mode)) throw DataError(path.filename().string() + " is not a file");
  return static_cast<std::uint64_t>(status.st_size);
}

json parse_manifest(const fs::path& folder) {
  if (size_of_file(folder / kManifestFile) == 0) throw DataError(fmt::format("{} is empty", kManifestFile));
  const std::string text = read_file(folder / kManifestFile);
  const json manifest = json::parse(text, nullptr, false);
  if (manifest.is_discarded() || !manifest.is_object()) {
    throw DataError(fmt::format("{} is no JSON object", kManifestFile));
  }
  if (manifest.value("format", json()) != kFormat) {
    throw DataError(fmt::format("{}: its format is not \"{}\"", kManifestFile, kFormat));
  }
  if (manifest.value("xxh3", json()) != own_hash(manifest) || text != text_of(manifest)) {
    throw DataError(fmt::format("{} does not match its own hash", kManifestFile));
  }
  return manifest;
}

void check_file(const fs::path& path, const json& entry) {
  const std::string name = path.filename().string();
  const std::uint64_t size = size_of_file(path), expected = entry.at("bytes").get<std::uint64_t>();
  if (size != expected)
    throw DataError(fmt::format("{} has {} bytes; {} were written", name, size, expected));
  if (xxh3_file(path) != entry.at("xxh3").get<std::string>()) {
    throw DataError(fmt::format("{}: its content is not what was written (XXH3-64 differs)", name));
  }
}

}  // namespace

void write_manifest(const fs::path& folder, std::int64_t step, std::int64_t attempt,
                    const std::vector<std::string>& files) {
  json manifest = {{"format", kFormat}, {"step", step}, {"attempt", attempt}, {"files", json::object()}};
  for (const std::string& name : files) {
    manifest["files"][name] = {{"bytes", size_of_file(folder / name)}, {"xxh3", xxh3_file(folder / name)}};
  }
  manifest["xxh3"] = own_hash(manifest);
  write_new_file(folder / kManifestFile, bytes_of(text_of(manifest)));
}

Manifest read_manifest(const fs::path& folder) {
  const json manifest = parse_manifest(folder);
  try {
    Manifest result{manifest.at("step").get<std::int64_t>(), {}};
    const auto name = parse_step_name(folder.filename().string());
    if (name && name->step != result.step) {
      throw DataError(fmt::format("{} is of step {}; the folder was renamed", kManifestFile, result.step));
    }
    for (const auto& [file, entry] : manifest.at("files").items()) {
      if (file.empty() || file.find('/') != std::string::npos)
        throw DataError("MANIFEST.json names no plain file: " + file);
      check_file(folder / file, entry);
      result.files.push_back(file);
    }
    if (!manifest.at("files").contains(kStateFile)) throw DataError("MANIFEST.json does not name state.json");
    return result;
  } catch (const json::exception& error) {
    throw DataError(fmt::format("{}: {}", kManifestFile, error.what()));
  }
}

std::string verify(const fs::path& folder) {
  try {
    read_manifest(folder);
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

Snapshot read(const fs::path& folder) {
  constexpr std::string_view kSuffix = ".safetensors";
  try {
    const Manifest manifest = read_manifest(folder);
    Snapshot snapshot{manifest.step, {}, json::parse(read_file(folder / kStateFile))};
    for (const std::string& file : manifest.files) {
      if (file.ends_with(kSuffix)) {
        snapshot.files[file.substr(0, file.size() - kSuffix.size())] = load_tensors(folder / file);
      }
    }
    return snapshot;
  } catch (const json::exception& error) {
    throw DataError(fmt::format("{}: {}: {}", folder.string(), kStateFile, error.what()));
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", folder.string(), error.what()));
  }
}

}  // namespace cosub::checkpoint
