// MANIFEST.json: what makes a folder of files a checkpoint. Written last, so that its presence says that all
// is there.
//   {"attempt": 3, "files": {"model.safetensors": {"bytes": 123, "xxh3": "16 hex digits"}, ...},
//    "format": "cosub-checkpoint-1", "step": 12000, "xxh3": "of this text without this key"}
// printed with two blanks of indentation and keys sorted; any other form of the same content counts as
// damaged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cosub::checkpoint {

inline constexpr const char* kManifestFile = "MANIFEST.json";
inline constexpr const char* kStateFile = "state.json";

/// Hashes `files` (names in `folder`, as they lie there now) and writes MANIFEST.json, fsynced. IoError.
void write_manifest(const std::filesystem::path& folder, std::int64_t step, std::int64_t attempt,
                    const std::vector<std::string>& files);

struct Manifest {
  std::int64_t step = 0;
  std::vector<std::string> files;
};

/// Reads MANIFEST.json and checks every file against it. DataError whose text is what is wrong.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace cosub::checkpoint
