// Whether a shard is still the one that was indexed, though its time says otherwise: copies have another one.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <span>

#include "common/descriptor.h"
#include "common/shard_index.h"

namespace cosub::data {

/// As ShardEntry has it.
std::int64_t modified_ns_of(const struct stat& status);

/// XXH3-64 of the bytes around the beginnings of at most 16 samples, the first and the last among them:
/// names, sizes and first bytes of their images and, where they stand in front, their labels. Blocks on as
/// many reads; IoError.
std::uint64_t fingerprint_of(const std::filesystem::path& path, const Descriptor& file,
                             std::span<const SampleRecord> records);

}  // namespace cosub::data
