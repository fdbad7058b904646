#include "worker/data/pack_shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <variant>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/random.h"
#include "worker/data/bad_share.h"
#include "worker/data/permutation.h"
#include "worker/data/storage/build_shard_index.h"
#include "worker/data/storage/class_map.h"
#include "worker/data/storage/in_threads.h"
#include "worker/data/storage/pack_folder.h"
#include "worker/data/storage/source_identity.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostShards = 1'000'000;  // six digits of their names
constexpr std::int64_t kMostSamples = 1'000'000'000;

std::int64_t num_shards(std::int64_t samples, const PackOptions& options) {
  const std::int64_t shards = (samples + options.samples_per_shard - 1) / options.samples_per_shard;
  if (samples > kMostSamples || shards > kMostShards) {
    throw ConfigError(fmt::format(
        "--samples-per-shard {}: {} samples would make {} shards; at most {} shards and {} samples go "
        "into one folder",
        options.samples_per_shard, samples, shards, kMostShards, kMostSamples));
  }
  return shards;
}

std::string place_of(const config::SourceConfig& config) {
  if (config.idx) return config.idx->images.string();
  if (!config.list.empty()) return config.list.string();
  return config.folder.empty() ? config.shards.front().string() : config.folder.string();
}

nlohmann::ordered_json description_of(const config::SourceConfig& config, const Source& source,
                                      const PackOptions& options) {
  return {{"given", {{"source", place_of(config)}}},
          {"source", {{"samples", source.size()}, {"hash of names and labels", identity_of(config, source)}}},
          {"options",
           {{"--samples-per-shard", options.samples_per_shard},
            {"--shorter", options.shorter_px},
            {"--quality", options.quality},
            {"--raw-share", options.raw_share},
            {"--order", options.is_shuffled ? "shuffled" : "source"},
            {"--seed", options.seed}}}};
}

void write_lines(const fs::path& file, const std::vector<std::string>& lines) {
  if (lines.empty()) {
    fs::remove(file);
    return;
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  write_file_atomically(file, text);
}

class Packer {
 public:
  using Make = std::function<PackedImage(std::int64_t)>;
  using Progress = std::function<void(const PackProgress&)>;

  Packer(const config::SourceConfig& config, const Source& source, const PackOptions& options,
         const Make& make, const Progress& progress)
      : config_(config),
        source_(source),
        options_(options),
        make_(make),
        report_(progress),
        order_(stream_seed(options.seed, "data pack"), source.size()),
        num_shards_(num_shards(source.size(), options)),
        folder_(options.output, description_of(config, source, options), num_shards_) {}

  PackSummary run() try {
    const bool is_complete = pack_all();
    PackSummary summary = summarize(is_complete);
    write_lines(folder_.path() / "bad_samples.txt", summary.bad);
    if (is_complete) complete(summary);
    return summary;
  } catch (const IoError& error) {
    throw IoError(fmt::format("{}. Of {} shards {} are finished; the same command goes on with the rest",
                              error.what(), num_shards_, folder_.num_finished()),
                  error.error_number());
  }

 private:
  using Made = std::variant<PackedImage, std::string>;  // or why it is left out

  std::int64_t begin_of(std::int64_t shard) const {
    return std::min(shard * options_.samples_per_shard, source_.size());
  }
  std::int64_t sample_at(std::int64_t position) const {
    return options_.is_shuffled ? order_.at(0, position) : position;
  }
  bool has_too_many_bad() const {
    return progress_.bad > allowed_bad(options_.max_bad_share, source_.size());
  }

  Made made(std::int64_t sample) const {
    try {
      return make_(sample);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
  }

  /// False when it ended early.
  bool pack_all() {
    progress_.of = source_.size();
    for (std::int64_t shard = 0; shard < num_shards_; ++shard) {
      if (!folder_.finished(shard)) continue;
      ++shards_before_;
      progress_.samples += begin_of(shard + 1) - begin_of(shard);
      progress_.bad += static_cast<std::int64_t>(folder_.finished(shard)->bad.size());
    }
    // A shard goes to the disk while the next one is made.
    std::future<void> committing;
    const auto wait = [&] {
      if (committing.valid()) committing.get();
    };
    bool goes_on = !has_too_many_bad();
    for (std::int64_t shard = 0; shard < num_shards_ && goes_on; ++shard) {
      if (folder_.finished(shard)) continue;
      auto tar = std::make_shared<TarWriter>(folder_.temporary_of(shard));
      ShardRecord record;
      goes_on = pack(shard, *tar, record);
      wait();
      if (!goes_on) {
        bad_of_unfinished_ = std::move(record.bad);
        break;
      }
      committing = std::async(std::launch::async, [this, shard, tar = std::move(tar), record] {
        folder_.commit(shard, *tar, record);
      });
    }
    wait();
    return goes_on;
  }

  bool pack(std::int64_t shard, TarWriter& tar, ShardRecord& record) {
    const std::int64_t begin = begin_of(shard);
    InOrder<Made>::run(
        options_.threads, begin_of(shard + 1) - begin,
        [&](std::int64_t i) { return made(sample_at(begin + i)); },
        [&](std::int64_t i, Made result) {
          if (const auto* image = std::get_if<PackedImage>(&result)) {
            add(sample_at(begin + i), *image, tar, record);
          } else {
            record.bad.push_back(std::get<std::string>(result));
            ++progress_.bad;
          }
          ++progress_.samples;
          ++progress_.samples_now;
          if (report_) report_(progress_);
          return !has_too_many_bad();
        });
    return !has_too_many_bad();
  }

  void add(std::int64_t sample, const PackedImage& image, TarWriter& tar, ShardRecord& record) {
    const std::string key = fmt::format("{:09}", sample), label = std::to_string(source_.label(sample));
    tar.add(key + ".cls", {reinterpret_cast<const std::uint8_t*>(label.data()), label.size()});
    tar.add(key + "." + image.extension, image.bytes);
    progress_.bytes_now += image.bytes.size();
    switch (image.how) {
      case StoredAs::kItIs:
        ++record.as_they_are;
        break;
      case StoredAs::kReencoded:
        ++record.reencoded;
        break;
      case StoredAs::kPixels:
        ++record.pixels;
        break;
    }
  }

  PackSummary summarize(bool is_complete) const {
    PackSummary summary;
    summary.shards_before = shards_before_;
    summary.has_too_many_bad = !is_complete;
    for (std::int64_t shard = 0; shard < num_shards_; ++shard) {
      const std::optional<ShardRecord>& record = folder_.finished(shard);
      if (!record) continue;
      summary.shards += record->samples() > 0 ? 1 : 0;
      summary.as_they_are += record->as_they_are;
      summary.reencoded += record->reencoded;
      summary.pixels += record->pixels;
      summary.bytes += record->bytes;
      for (const std::string& reason : record->bad)
        summary.bad.push_back(fmt::format("{} (left out of {})", reason, PackFolder::file_of(shard)));
    }
    summary.bad.insert(summary.bad.end(), bad_of_unfinished_.begin(), bad_of_unfinished_.end());
    return summary;
  }

  void complete(const PackSummary& summary) {
    if (summary.samples() == 0) {
      throw DataError(fmt::format("{}: none of its {} samples can be read; the reasons are in {}",
                                  place_of(config_), source_.size(),
                                  (folder_.path() / "bad_samples.txt").string()));
    }
    write_lines(folder_.path() / "classes.txt", class_names(config_));
    std::vector<fs::path> shards;
    for (std::int64_t shard = 0; shard < num_shards_; ++shard) {
      if (folder_.finished(shard)->samples() > 0)
        shards.push_back(folder_.path() / PackFolder::file_of(shard));
    }
    build_shard_index(shards, {.threads = options_.threads}, nullptr);
    folder_.complete();
  }

  const config::SourceConfig& config_;
  const Source& source_;
  const PackOptions& options_;
  const Make& make_;
  const Progress& report_;
  Permutation order_;
  std::int64_t num_shards_;
  PackFolder folder_;
  PackProgress progress_;
  std::int64_t shards_before_ = 0;
  std::vector<std::string> bad_of_unfinished_;
};

}  // namespace

PackSummary pack_shards(const config::SourceConfig& config, const Source& source, const PackOptions& options,
                        const std::function<PackedImage(std::int64_t)>& make,
                        const std::function<void(const PackProgress&)>& progress) {
  return Packer(config, source, options, make, progress).run();
}

}  // namespace cosub::data
