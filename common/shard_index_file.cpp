#include "common/shard_index_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <bit>
#include <cstring>

namespace cosub {
namespace {

static_assert(std::endian::native == std::endian::little);

struct TableEntry {
  std::uint64_t file_size;
  std::int64_t modified_ns;
  std::uint64_t fingerprint;
  std::uint64_t first, count;
  std::int32_t max_label;
  std::uint32_t name_bytes;
};
static_assert(sizeof(TableEntry) == 48);

std::size_t padded(std::size_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace

std::uint64_t table_hash_of(const IndexHeader& header, std::string_view table) {
  const std::uint64_t seed =
      header.num_samples * 31 + header.num_shards * 7 + header.version + header.labelling * 131;
  return XXH3_64bits_withSeed(table.data(), table.size(), seed);
}

std::string index_head(std::vector<ShardEntry>& shards, std::uint64_t labelling) {
  IndexHeader header;
  header.labelling = labelling;
  std::string table;
  for (ShardEntry& shard : shards) {
    shard.first = header.num_samples;
    header.num_samples += shard.count;
    const TableEntry entry{shard.file_size,
                           shard.modified_ns,
                           shard.fingerprint,
                           shard.first,
                           shard.count,
                           shard.max_label,
                           static_cast<std::uint32_t>(shard.file.size())};
    table.append(reinterpret_cast<const char*>(&entry), sizeof entry);
    table += shard.file;
    table.resize(padded(table.size()));
  }
  header.num_shards = static_cast<std::uint32_t>(shards.size());
  header.table_bytes = table.size();
  header.table_hash = table_hash_of(header, table);
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + table;
}

std::string parse_index(std::span<const std::byte> content, IndexContent& out) {
  IndexHeader header;
  std::vector<ShardEntry>& shards = out.shards;
  if (content.size() < sizeof header) return "cut short";
  std::memcpy(&header, content.data(), sizeof header);
  if (std::memcmp(header.magic, IndexHeader().magic, sizeof header.magic) != 0) return "no index of shards";
  if (header.version != IndexHeader().version) {
    return fmt::format("version {} of the format; this program reads version {}", header.version,
                       IndexHeader().version);
  }
  const std::uint64_t behind = content.size() - sizeof header;
  if (header.table_bytes > behind || header.table_bytes % 8 != 0 ||
      header.num_samples != (behind - header.table_bytes) / sizeof(SampleRecord) ||
      (behind - header.table_bytes) % sizeof(SampleRecord) != 0) {
    return "cut short or damaged";
  }
  const std::string_view table(reinterpret_cast<const char*>(content.data()) + sizeof header,
                               header.table_bytes);
  if (table_hash_of(header, table) != header.table_hash) return "damaged (its table does not have its hash)";
  std::size_t at = 0;
  std::uint64_t first = 0;
  shards.clear();
  for (std::uint32_t i = 0; i < header.num_shards; ++i) {
    TableEntry entry;
    if (table.size() - at < sizeof entry) return "damaged (its table ends early)";
    std::memcpy(&entry, table.data() + at, sizeof entry);
    at += sizeof entry;
    if (entry.name_bytes > table.size() - at || entry.first != first ||
        entry.count > header.num_samples - first) {
      return "damaged (its table does not fit its samples)";
    }
    shards.push_back({std::string(table.substr(at, entry.name_bytes)), entry.file_size, entry.modified_ns,
                      entry.fingerprint, entry.first, entry.count, entry.max_label});
    at += padded(entry.name_bytes);
    first += entry.count;
    if (i > 0 && shards[i - 1].file >= shards[i].file) return "damaged (its shards are not in order)";
  }
  if (at != table.size() || first != header.num_samples)
    return "damaged (its table does not fit its samples)";
  out.labelling = header.labelling;
  out.records = reinterpret_cast<const SampleRecord*>(content.data() + sizeof header + header.table_bytes);
  return "";
}

}  // namespace cosub
