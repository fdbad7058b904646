// Files that a tool writes when its work is done.
#pragma once

#include <filesystem>

namespace cosub::tools {

/// Before the work: ConfigError naming the option where no file can be made at this path. An empty one is no
/// file.
void check_output_file(const char* option, const std::filesystem::path& path);

}  // namespace cosub::tools
