#include "worker/data/storage/pair_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

#include "common/atomic_file.h"
#include "common/error.h"
#include "worker/data/storage/image_files.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kImages = "image (.jpg, .jpeg, .png, .ppm, .pgm)";

bool is_mask_name(const fs::path& path) {
  return extension_of(path) == ".png";
}

std::string without_extension(const std::string& path) {
  return fs::path(path).replace_extension().string();
}

void check_folders(const fs::path& images, const fs::path& masks) {
  for (const fs::path& folder : {images, masks}) {
    if (!fs::is_directory(folder)) throw DataError(fmt::format("{}: no such folder", folder.string()));
  }
  if (fs::equivalent(images, masks)) {
    throw DataError(
        fmt::format("{}: the folder of the images and of the masks; give each its own", masks.string()));
  }
}

/// The files of one folder.
class Files {
 public:
  Files(const fs::path& folder, bool (*accepts)(const fs::path&), std::string_view kind)
      : folder_(folder), in_order_(files_below(folder, "", accepts)) {
    if (in_order_.empty()) throw DataError(fmt::format("{}: no {} in it", folder.string(), kind));
    for (const std::string& path : in_order_) by_stem_.emplace(without_extension(path), path);
  }
  const std::vector<std::string>& in_order() const { return in_order_; }

  /// Empty: there is none.
  std::string find(const std::string& stem) const {
    const auto [first, last] = by_stem_.equal_range(stem);
    if (first == last) return {};
    if (std::next(first) == last) return first->second;
    throw DataError(fmt::format("{}: {} and {} are two files for one sample; remove one", folder_.string(),
                                first->second, std::next(first)->second));
  }

 private:
  fs::path folder_;
  std::vector<std::string> in_order_;
  std::multimap<std::string, std::string> by_stem_;
};

/// Where a sample is asked for, for messages, and its path without extension.
struct Wanted {
  std::string where, stem;
};

std::vector<Wanted> wanted_by_list(const fs::path& list) {
  std::vector<Wanted> wanted;
  std::istringstream lines(read_file(list));
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    const std::size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
    if (begin == std::string::npos) continue;
    wanted.push_back({fmt::format("{}:{}", list.string(), number), line.substr(begin, end + 1 - begin)});
  }
  if (wanted.empty()) throw DataError(fmt::format("{}: no sample in it", list.string()));
  return wanted;
}

std::vector<Wanted> all_of(const fs::path& folder, const Files& images) {
  std::vector<Wanted> wanted;
  for (const std::string& image : images.in_order()) {
    wanted.push_back({(folder / image).string(), without_extension(image)});
  }
  return wanted;
}

}  // namespace

PairSource::PairSource(const PairFolders& folders) : images_(folders.images), masks_(folders.masks) {
  const bool has_list = !folders.list.empty();
  std::vector<std::string> lacking;
  try {
    check_folders(images_, masks_);
    const Files images(images_, is_image_name, kImages);
    const Files masks(masks_, is_mask_name, "mask (.png)");
    for (const auto& [where, stem] : has_list ? wanted_by_list(folders.list) : all_of(images_, images)) {
      Pair pair{images.find(stem), masks.find(stem)};
      if (pair.image.empty()) {
        lacking.push_back(fmt::format("{}: {}: no {}", where, (images_ / stem).string(), kImages));
      } else if (pair.mask.empty()) {
        lacking.push_back(fmt::format("{}: no mask {}.png", where, (masks_ / stem).string()));
      }
      pairs_.push_back(std::move(pair));
    }
  } catch (const fs::filesystem_error& error) {
    throw IoError(fmt::format("cannot list images and masks: {}", error.what()), error.code().value());
  }
  if (!lacking.empty()) {
    throw DataError(fmt::format("{}{}; {}", lacking.front(),
                                lacking.size() == 1 ? "" : fmt::format(" (and {} more)", lacking.size() - 1),
                                has_list ? "a line is a path below both folders, without extension"
                                         : "add what is missing, or name the samples to use in a list"));
  }
  if (folders.limit > size()) {
    throw DataError(
        fmt::format("{}: {} images with masks are there; the limit asks for {}. Lower it, or set "
                    "0 for all",
                    images_.string(), size(), folders.limit));
  }
  if (folders.limit > 0) pairs_.resize(folders.limit);
}

StoredPair PairSource::read(std::int64_t index, ByteBuffer& image, ByteBuffer& mask) const {
  read_image_file(name(index), image);
  read_image_file(mask_name(index), mask);
  return {std::span(image.data(), image.size()), std::span(mask.data(), mask.size())};
}

}  // namespace cosub::data
