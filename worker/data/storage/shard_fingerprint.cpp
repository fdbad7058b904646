#include "worker/data/storage/shard_fingerprint.h"

#include <xxhash.h>

#include <algorithm>
#include <string>
#include <vector>

namespace cosub::data {
namespace {

constexpr std::size_t kMostPlaces = 16;
constexpr std::uint64_t kBytesBefore = 3 * 512;  // KEY.cls, header and text, and the image's header
constexpr std::uint64_t kBytesBehind = 512;

}  // namespace

std::int64_t modified_ns_of(const struct stat& status) {
  return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

std::uint64_t fingerprint_of(const std::filesystem::path& path, const Descriptor& file,
                             std::span<const SampleRecord> records) {
  std::string bytes;
  std::vector<std::byte> piece;
  const std::size_t places = std::min(kMostPlaces, records.size());
  for (std::size_t i = 0; i < places; ++i) {
    const SampleRecord& record = records[places == 1 ? 0 : i * (records.size() - 1) / (places - 1)];
    const std::uint64_t before = std::min(kBytesBefore, record.offset);
    piece.resize(before + std::min<std::uint64_t>(kBytesBehind, record.size));
    const std::size_t got = read_at(file, piece, record.offset - before, path);
    bytes.append(reinterpret_cast<const char*>(piece.data()), got);
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace cosub::data
