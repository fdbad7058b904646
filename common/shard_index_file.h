// The bytes of `shards.index`, little endian:
//
//   IndexHeader             48 bytes
//   table: per shard, by    u64 file size, i64 modified, u64 fingerprint, u64 first, u64 count,
//   name                    i32 largest label, u32 length of the name, the name, zero bytes up to a
//                           multiple of 8
//   records: per sample     u64 offset, u32 size, i32 label
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/shard_index.h"

namespace cosub {

struct IndexHeader {
  char magic[8] = {'c', 'o', 's', 'u', 'b', 'i', 'd', 'x'};
  std::uint32_t version = 2;
  std::uint32_t num_shards = 0;
  std::uint64_t num_samples = 0;
  std::uint64_t table_bytes = 0;
  std::uint64_t labelling = 0;
  std::uint64_t table_hash = 0;
};
static_assert(sizeof(IndexHeader) == 48);

/// XXH3-64 of the table, seeded with the header's other numbers.
std::uint64_t table_hash_of(const IndexHeader& header, std::string_view table);

/// Header and table, with `first` of each shard set to its place.
std::string index_head(std::vector<ShardEntry>& shards, std::uint64_t labelling);

/// Fills what the bytes say; "" or what is wrong with them. `content` is aligned to 8 bytes and must outlive
/// `out`.
std::string parse_index(std::span<const std::byte> content, IndexContent& out);

}  // namespace cosub
