// libFuzzer on parse_index; run by bench/fuzz/run. What is accepted must lie inside the input and be the
// same after it is written again.
#include <cstring>
#include <random>
#include <vector>

#include "bench/fuzz/input_file.h"
#include "common/shard_index_file.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace cosub::fuzz {
namespace {

/// The table's hash as the writer computes it; without it every change would be refused there.
void mend_hash(std::uint8_t* data, std::size_t size) {
  IndexHeader header;
  if (size < sizeof header) return;
  std::memcpy(&header, data, sizeof header);
  if (header.table_bytes > size - sizeof header) return;
  header.table_hash =
      table_hash_of(header, {reinterpret_cast<const char*>(data) + sizeof header, header.table_bytes});
  std::memcpy(data, &header, sizeof header);
}

bool is_same(const ShardEntry& a, const ShardEntry& b) {
  return a.file == b.file && a.file_size == b.file_size && a.modified_ns == b.modified_ns &&
         a.fingerprint == b.fingerprint && a.first == b.first && a.count == b.count &&
         a.max_label == b.max_label;
}

/// -> whether it was accepted.
bool check(std::span<const std::byte> content, bool again) {
  IndexContent index;
  const std::string problem = parse_index(content, index);
  if (!problem.empty()) return false;
  const auto& [labelling, shards, records] = index;
  std::uint64_t count = 0;
  for (const ShardEntry& shard : shards) {
    promise(shard.first == count, "shards with a gap between their samples");
    count += shard.count;
  }
  const auto* begin = reinterpret_cast<const std::byte*>(records);
  promise(begin >= content.data() && begin + count * sizeof(SampleRecord) == content.data() + content.size(),
          "samples outside the file");
  std::uint32_t sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) sum += records[i].size;
  static volatile std::uint32_t read;
  read = sum;
  if (!again) return true;
  std::vector<ShardEntry> written = shards;
  std::string bytes = index_head(written, labelling);
  bytes.append(reinterpret_cast<const char*>(records), count * sizeof(SampleRecord));
  IndexContent parsed;
  promise(parse_index(std::as_bytes(std::span(bytes)), parsed).empty(), "not read again");
  promise(parsed.labelling == labelling, "another labelling");
  promise(parsed.shards.size() == shards.size(), "other shards after writing");
  for (std::size_t i = 0; i < shards.size(); ++i) {
    promise(is_same(parsed.shards[i], shards[i]), "another shard");
  }
  return true;
}

}  // namespace
}  // namespace cosub::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  std::minstd_rand random(seed);
  const unsigned kind = random() % 4;
  if (kind == 0) {
    size = LLVMFuzzerMutate(data, size, max_size);
  } else {
    LLVMFuzzerMutate(data, size, size);  // in place: lengths stay right
  }
  if (kind < 3) cosub::fuzz::mend_hash(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A mapping is aligned; bytes of exactly this size let AddressSanitizer see one too far.
  const std::vector<std::byte> content(reinterpret_cast<const std::byte*>(data),
                                       reinterpret_cast<const std::byte*>(data) + size);
  cosub::fuzz::check(content, true);
  return 0;
}
