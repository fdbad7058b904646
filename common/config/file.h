// Reading a YAML file as a whole, with its name and folder remembered for messages and relative paths.
#pragma once

#include <filesystem>

#include "common/config/problems.h"
#include "common/config/tree.h"

namespace cosub::config {

/// A file that is missing, unreadable or absurdly large becomes a problem.
Tree read_yaml_file(const std::filesystem::path& file, Problems& problems);

/// For text that stands for a file of that name; relative data paths start at `folder`.
Tree read_yaml_text(const std::string& text, const std::string& name, const std::filesystem::path& folder,
                    Problems& problems);

}  // namespace cosub::config
