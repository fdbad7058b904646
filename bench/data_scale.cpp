// The loader's start on an index of ImageNet-21k's size: 14,197,122 samples in 2,048 shards, without the
// images.
//   build/release/bench/data_scale [FOLDER]      (default: a temporary folder; the index takes 227 MB)
// Prints the seconds to open the set, the resident memory after it, and the milliseconds until the first
// microbatch is known from epoch 0 and from sample 9,000,001 of epoch 57 on.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/shard_index_file.h"
#include "worker/data/loader.h"

namespace cosub {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSamples = 14'197'122, kShards = 2048, kClasses = 21'841;

void write_set(const fs::path& folder) {
  fs::create_directories(folder);
  std::vector<ShardEntry> shards;
  std::string records;
  for (std::int64_t shard = 0; shard < kShards; ++shard) {
    const std::int64_t first = shard * kSamples / kShards, end = (shard + 1) * kSamples / kShards;
    ShardEntry entry;
    entry.file = fmt::format("{:06}.tar", shard);
    entry.file_size = static_cast<std::uint64_t>(end - first) * 110'000;
    entry.count = static_cast<std::uint64_t>(end - first);
    entry.max_label = kClasses - 1;
    shards.push_back(entry);
    for (std::int64_t i = first; i < end; ++i) {
      const SampleRecord record{static_cast<std::uint64_t>(i - first) * 110'000, 100'000,
                                static_cast<std::int32_t>(i % kClasses)};
      records.append(reinterpret_cast<const char*>(&record), sizeof record);
    }
    std::ofstream(folder / entry.file);  // opening the set looks whether it is there
  }
  write_file_atomically(folder / kShardIndexName, index_head(shards, 0) + records);
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  double size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1024 * 1024);
}

template <class Work>
double seconds_of(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// From a loader's construction to its first microbatch: the shards are empty, so that its first sample ends
/// it.
double seconds_to_enter(const std::shared_ptr<const data::Source>& source, std::int64_t step) {
  constexpr std::int64_t kGlobal = 2048;
  data::TrainLoader::Options options;
  options.classes = kClasses;
  options.image_size = 224;
  options.plan = {.size = source->size(), .global = kGlobal, .micro = 64};
  options.first_step = step;
  options.end_step = step + 1;
  options.end = 1;
  return seconds_of([&] {
    try {
      data::TrainLoader(source, options).next();
    } catch (const DataError&) {
      return;  // 100 samples in a row were looked up, opened and found empty
    }
    throw Error("the shards are empty, and yet there was a microbatch");
  });
}

int run(const fs::path& folder) {
  write_set(folder);
  const double before = resident_mib();
  std::shared_ptr<const data::Source> source;
  const double opening = seconds_of(
      [&] { source = data::open_source({.shards = {folder / "{000000..002047}.tar"}}, 3, kClasses); });
  fmt::print("{} samples in {} shards: opened in {:.3f} s; {:.0f} MiB resident ({:.0f} before)\n",
             source->size(), kShards, opening, resident_mib(), before);
  seconds_to_enter(source, 0);  // warms what is not the loader's
  const std::int64_t steps = kSamples / 2048;
  const double at_start = seconds_to_enter(source, 0);
  const double inside = seconds_to_enter(source, 57 * steps + 9'000'001 / 2048);
  fmt::print("first microbatch from epoch 0: {:.2f} ms; from sample 9,000,001 of epoch 57: {:.2f} ms\n",
             1e3 * at_start, 1e3 * inside);
  std::int64_t sum = 0;
  const double labels = seconds_of([&] {
    for (std::int64_t i = 0; i < source->size(); ++i) sum += source->label(i);
  });
  fmt::print("all labels read in {:.2f} s; {:.0f} MiB resident\n", labels, resident_mib());
  return sum > 0 ? 0 : 1;
}

}  // namespace
}  // namespace cosub

int main(int argc, char** argv) {
  const bool is_given = argc > 1;
  const std::filesystem::path folder =
      is_given ? std::filesystem::path(argv[1])
               : std::filesystem::temp_directory_path() / fmt::format("cosub-data-scale-{}", ::getpid());
  const int code = cosub::run(folder);
  if (!is_given) std::filesystem::remove_all(folder);
  return code;
}
