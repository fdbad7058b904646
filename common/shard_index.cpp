#include "common/shard_index.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/shard_index_file.h"

namespace cosub {

namespace fs = std::filesystem;

std::shared_ptr<const ShardIndex> ShardIndex::open(const fs::path& file) {
  const auto refuse = [&](const std::string& what) -> DataError {
    return DataError(fmt::format("{}: {}; write it with: cosub data index {}", file.string(), what,
                                 (file.parent_path() / "*.tar").string()));
  };
  if (!fs::exists(file)) throw refuse("no index of the shards");
  const Descriptor descriptor = open_file(file, O_RDONLY, "read");
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) throw io_error("read", file, errno);
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < sizeof(IndexHeader)) throw refuse("cut short");
  void* map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (map == MAP_FAILED) throw io_error("map", file, errno);
  const std::shared_ptr<ShardIndex> index(new ShardIndex);
  index->map_ = map;
  index->map_bytes_ = bytes;
  const std::span<const std::byte> content(static_cast<const std::byte*>(map), bytes);
  const std::string problem = parse_index(content, index->content_);
  if (!problem.empty()) throw refuse(problem);
  return index;
}

ShardIndex::~ShardIndex() {
  if (map_ != nullptr) ::munmap(map_, map_bytes_);
}

const ShardEntry* ShardIndex::find(std::string_view file) const {
  const auto found = std::ranges::lower_bound(content_.shards, file, {}, &ShardEntry::file);
  return found != content_.shards.end() && found->file == file ? &*found : nullptr;
}

}  // namespace cosub
