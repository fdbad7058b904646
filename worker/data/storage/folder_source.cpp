#include "worker/data/storage/folder_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/error.h"
#include "worker/data/storage/class_map.h"
#include "worker/data/storage/image_files.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

struct Sample {
  std::string path;  // below the folder
  std::int64_t label = 0;
};

std::vector<std::string> files_of_class(const fs::path& folder, const std::string& name) {
  std::vector<std::string> paths = files_below(folder, name, is_image_name);
  if (paths.empty()) {
    throw DataError(
        fmt::format("{}: no image in it (.jpg, .jpeg, .png, .ppm, .pgm); remove the folder or fill it",
                    (folder / name).string()));
  }
  return paths;
}

ClassMap classes_of(const config::SourceConfig& config) {
  ClassMap classes = read_class_map(config.class_map);
  const std::vector<std::string> names = sub_folders(config.folder);
  if (names.empty()) {
    throw DataError(fmt::format("{}: no sub-folder in it; one per class is expected, with the class's images",
                                config.folder.string()));
  }
  if (classes.empty()) {
    for (const std::string& name : names) classes.emplace(name, static_cast<std::int64_t>(classes.size()));
    return classes;
  }
  ClassMap here;
  for (const std::string& name : names) {
    const auto known = classes.find(name);
    if (known == classes.end()) {
      throw DataError(fmt::format("{}: the sub-folder {} is no name of the class map {}",
                                  config.folder.string(), name, config.class_map.string()));
    }
    here.insert(*known);
  }
  return here;
}

std::vector<Sample> samples_in_folders(const config::SourceConfig& config) {
  std::vector<std::pair<std::int64_t, std::string>> by_number;
  for (const auto& [name, number] : classes_of(config)) by_number.emplace_back(number, name);
  std::ranges::sort(by_number);
  std::vector<Sample> samples;
  for (const auto& [number, name] : by_number) {
    for (std::string& path : files_of_class(config.folder, name))
      samples.push_back({std::move(path), number});
  }
  return samples;
}

std::vector<Sample> samples_in_list(const config::SourceConfig& config) {
  const ClassMap classes = read_class_map(config.class_map);
  std::vector<Sample> samples;
  std::istringstream lines(read_file(config.list));
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const std::string where = fmt::format("{}:{}", config.list.string(), number);
    const std::size_t gap = line.find_last_of(" \t");  // paths may hold spaces, labels not
    const std::size_t end = gap == std::string::npos ? gap : line.find_last_not_of(" \t", gap);
    if (gap == std::string::npos || end == std::string::npos) {
      throw DataError(fmt::format("{}: '{}' found; expected a path, a space and a label", where, line));
    }
    samples.push_back(
        {line.substr(0, end + 1), class_of(std::string_view(line).substr(gap + 1), classes, where)});
  }
  if (samples.empty()) throw DataError(fmt::format("{}: no sample in it", config.list.string()));
  return samples;
}

class FolderSource : public Source {
 public:
  FolderSource(fs::path folder, const std::vector<Sample>& samples, std::int64_t channels)
      : folder_(std::move(folder)), channels_(channels) {
    labels_.reserve(samples.size());
    ends_.reserve(samples.size());
    for (const Sample& sample : samples) {
      paths_ += sample.path;
      ends_.push_back(paths_.size());
      labels_.push_back(static_cast<std::int32_t>(sample.label));
    }
    paths_.shrink_to_fit();
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  std::int64_t channels() const override { return channels_; }
  std::int64_t label(std::int64_t index) const override { return labels_.at(index); }
  std::string name(std::int64_t index) const override {
    const std::size_t begin = index == 0 ? 0 : ends_.at(index - 1);
    return (folder_ / paths_.substr(begin, ends_.at(index) - begin)).string();
  }
  StoredImage read(std::int64_t index, ByteBuffer& buffer) const override {
    read_image_file(name(index), buffer);
    return {std::span(buffer.data(), buffer.size()), std::nullopt};
  }

 private:
  fs::path folder_;
  std::int64_t channels_;
  std::string paths_;                // one behind the other
  std::vector<std::uint64_t> ends_;  // of each in paths_
  std::vector<std::int32_t> labels_;
};

void check_labels(const std::vector<Sample>& samples, const fs::path& folder, std::int64_t classes) {
  for (const Sample& sample : samples) {
    if (sample.label < classes) continue;
    throw DataError(fmt::format("{}: its label is {}; model.classes is {}, so labels are 0 to {}",
                                (folder / sample.path).string(), sample.label, classes, classes - 1));
  }
}

}  // namespace

std::unique_ptr<Source> open_folder_source(const config::SourceConfig& config, std::int64_t channels,
                                           std::int64_t classes) {
  if (!fs::is_directory(config.folder)) {
    throw DataError(fmt::format("{}: no such folder; correct data.*.folder in the pipeline file",
                                config.folder.string()));
  }
  std::vector<Sample> samples;
  try {
    samples = config.list.empty() ? samples_in_folders(config) : samples_in_list(config);
  } catch (const fs::filesystem_error& error) {
    throw IoError(fmt::format("cannot list the images: {}", error.what()), error.code().value());
  }
  const auto found = static_cast<std::int64_t>(samples.size());
  if (config.limit > found) {
    throw DataError(fmt::format("{}: holds {} images; data.*.limit asks for {}. Lower it, or set 0 for all",
                                config.folder.string(), found, config.limit));
  }
  if (config.limit > 0) samples.resize(config.limit);
  check_labels(samples, config.folder, classes);
  return std::make_unique<FolderSource>(config.folder, samples, channels);
}

}  // namespace cosub::data
