#include "common/shard_list.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "common/braces.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "common/first_few.h"

namespace cosub {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> named_by(const std::vector<fs::path>& patterns) {
  std::vector<fs::path> named;
  for (const fs::path& pattern : patterns) {
    for (std::string& name : expand_braces(pattern.string())) named.emplace_back(std::move(name));
  }
  return named;
}

bool is_shard_name(const fs::path& path) {
  return path.extension() == ".tar";
}

std::vector<fs::path> shards_in(const fs::path& folder) {
  std::vector<fs::path> inside;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (is_shard_name(at->path())) inside.push_back(at->path());
  }
  if (error) throw io_error("read", folder, error.value());
  std::ranges::sort(inside);
  return inside;
}

/// "" or why it cannot be read, as far as that lasts.
std::string problem_with(const fs::path& file) {
  if (::access(file.c_str(), R_OK) == 0) return "";
  if (errno == ENOENT || errno == ENOTDIR) return "no such shard";
  if (errno == EACCES) return "cannot be read by this user";
  throw io_error("read", file, errno);
}

bool is_folder(const fs::path& path) {
  std::error_code error;  // told by problem_with
  return fs::is_directory(path, error);
}

class Listing {
 public:
  void add(const fs::path& named) {
    if (is_folder(named)) {
      add_folder(named);
    } else if (const std::string problem = problem_with(named); !problem.empty()) {
      list_.problems.push_back(
          fmt::format("{}: {}; correct data.*.shards, or copy it there{}", named.string(), problem,
                      is_shard_name(named) ? "" : " (`cosub data pack` makes folders of shards)"));
    } else if (const auto index = index_of(named.parent_path())) {
      add_indexed(named, index);
    }
  }
  ShardList end() { return std::move(list_); }

 private:
  void add_folder(const fs::path& folder) {
    const std::vector<fs::path> there = shards_in(folder);
    const auto index = index_of(folder);
    if (!index) return;
    std::size_t num_listed = 0;
    for (const ShardEntry& entry : index->shards()) {
      const fs::path path = folder / entry.file;
      if (!is_shard_name(path)) continue;
      ++num_listed;
      if (const std::string problem = problem_with(path); problem.empty()) {
        list_.shards.push_back({path, index, &entry});
      } else {
        list_.problems.push_back(
            fmt::format("{}: {}, though it is in the index of its folder; copy it there, or to go on without "
                        "it run: cosub data index {}",
                        path.string(), problem, folder.string()));
      }
    }
    for (const fs::path& path : there) {
      if (index->find(path.filename().string()) == nullptr) add_indexed(path, index);
    }
    if (num_listed == 0 && there.empty())
      list_.problems.push_back(fmt::format("{}: no *.tar in this folder", folder.string()));
  }

  void add_indexed(const fs::path& path, const std::shared_ptr<const ShardIndex>& index) {
    const ShardEntry* entry = index->find(path.filename().string());
    if (entry != nullptr) {
      list_.shards.push_back({path, index, entry});
    } else {
      list_.problems.push_back(fmt::format("{}: not in the index of its folder; run: cosub data index {}",
                                           path.string(), path.string()));
    }
  }

  /// nullptr, and one problem: it cannot be used.
  std::shared_ptr<const ShardIndex> index_of(const fs::path& folder) {
    const auto [at, is_new] = indexes_.try_emplace(folder);
    if (!is_new) return at->second;
    try {
      at->second = ShardIndex::open(folder / kShardIndexName);
    } catch (const DataError& error) {
      list_.problems.emplace_back(error.what());
    }
    return at->second;
  }

  ShardList list_;
  std::map<fs::path, std::shared_ptr<const ShardIndex>> indexes_;
};

}  // namespace

ShardList list_shards(const std::vector<fs::path>& patterns) {
  Listing listing;
  for (const fs::path& named : named_by(patterns)) listing.add(named);
  return listing.end();
}

std::vector<ListedShard> require_shards(const std::vector<fs::path>& patterns) {
  ShardList list = list_shards(patterns);
  if (!list.problems.empty()) throw DataError(first_few_lines(std::move(list.problems)));
  return std::move(list.shards);
}

std::vector<fs::path> shards_to_index(const std::vector<fs::path>& patterns) {
  std::vector<fs::path> shards;
  std::vector<std::string> problems;
  for (const fs::path& named : named_by(patterns)) {
    if (is_folder(named)) {
      const std::vector<fs::path> inside = shards_in(named);
      if (inside.empty()) problems.push_back(fmt::format("{}: no *.tar in this folder", named.string()));
      shards.insert(shards.end(), inside.begin(), inside.end());
    } else if (const std::string problem = problem_with(named); !problem.empty()) {
      problems.push_back(fmt::format("{}: {}; correct the name, or copy it there", named.string(), problem));
    } else {
      shards.push_back(named);
    }
  }
  if (!problems.empty()) throw DataError(first_few_lines(std::move(problems)));
  return shards;
}

}  // namespace cosub
