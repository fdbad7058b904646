#include "worker/data/storage/class_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::data {

ClassMap read_class_map(const std::filesystem::path& file) {
  ClassMap classes;
  if (file.empty()) return classes;
  std::istringstream lines(read_file(file));
  std::string line;
  for (std::int64_t number = 0; std::getline(lines, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() && (lines >> std::ws).eof()) break;
    if (line.empty() || !classes.emplace(line, number).second) {
      throw DataError(
          fmt::format("{}:{}: '{}' found; a class map has one name per line, each once, in the order of "
                      "the classes' numbers",
                      file.string(), number + 1, line));
    }
  }
  return classes;
}

std::int64_t class_of(std::string_view text, const ClassMap& classes, const std::string& where) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = error == std::errc() && end == text.data() + text.size() && number >= 0;
  const auto found = classes.find(text);
  if (found == classes.end() && is_number) return number;
  const bool has_two_meanings = is_number && found != classes.end() && number != found->second &&
                                number < static_cast<std::int64_t>(classes.size());
  if (has_two_meanings) {
    throw DataError(fmt::format(
        "{}: label '{}' found, which is a number, and in the class map the name of class {}; leave "
        "the class map out if labels are numbers, or give that class another name",
        where, text, found->second));
  }
  if (found != classes.end()) return found->second;
  throw DataError(
      fmt::format("{}: label '{}' found; expected a number{}", where, text,
                  classes.empty() ? ", or give the names with a class map" : " or a name of the class map"));
}

std::vector<std::string> sub_folders(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> class_names(const config::SourceConfig& config) {
  if (config.class_map.empty()) {
    return config.folder.empty() || !config.list.empty() ? std::vector<std::string>()
                                                         : sub_folders(config.folder);
  }
  const ClassMap classes = read_class_map(config.class_map);
  std::vector<std::string> names(classes.size());
  for (const auto& [name, number] : classes) names.at(number) = name;
  return names;
}

}  // namespace cosub::data
