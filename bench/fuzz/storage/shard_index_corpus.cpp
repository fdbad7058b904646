// Valid indexes by our own writer, for a fuzzer to begin with: shard_index_corpus FOLDER.
#include <cstdio>
#include <filesystem>

#include "common/atomic_file.h"
#include "common/shard_index_file.h"

namespace cosub {
namespace {

void write(const std::filesystem::path& path, std::vector<ShardEntry> shards) {
  std::string content = index_head(shards, 7);
  for (const ShardEntry& shard : shards) {
    for (std::uint64_t i = 0; i < shard.count; ++i) {
      const SampleRecord record{512 + 1024 * i, 700, static_cast<std::int32_t>(i)};
      content.append(reinterpret_cast<const char*>(&record), sizeof record);
    }
  }
  write_file_atomically(path, content);
}

ShardEntry shard(const std::string& file, std::uint64_t count) {
  return {file, 10240, 1'700'000'000'000'000'000, 9, 0, count, static_cast<std::int32_t>(count) - 1};
}

void fill(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write(folder / "none", {});
  write(folder / "one", {shard("000000.tar", 1)});
  write(folder / "three", {shard("a.tar", 2), shard("bb.tar", 0), shard("ccccccccc.tar", 3)});
  write(folder / "padded", {shard("12345678", 1), shard("123456789", 1)});
}

}  // namespace
}  // namespace cosub

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: shard_index_corpus FOLDER\n");
    return 2;
  }
  cosub::fill(argv[1]);
  return 0;
}
