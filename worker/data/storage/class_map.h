// Names of classes by number.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::data {

using ClassMap = std::map<std::string, std::int64_t, std::less<>>;

/// One name per line, the first line is class 0; empty lines at the end do not count. DataError (file and
/// line) on an empty or repeated name, IoError when it cannot be read. An empty path gives an empty map.
ClassMap read_class_map(const std::filesystem::path& file);

/// The class that `text` means: a name in the map, else a number. DataError, beginning with `where`, when it
/// is neither, or both and not the same class: a name that is the number of another class of the map.
std::int64_t class_of(std::string_view text, const ClassMap& classes, const std::string& where);

/// The names of the folders in `folder`, sorted by bytes: ImageFolder's classes.
std::vector<std::string> sub_folders(const std::filesystem::path& folder);

/// The names of a source's classes in the order of their numbers: its class map's, else its folder's
/// sub-folders; empty where it has none.
std::vector<std::string> class_names(const config::SourceConfig& config);

}  // namespace cosub::data
