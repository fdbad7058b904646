#include "worker/tools/output_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace cosub::tools {

void check_output_file(const char* option, const std::filesystem::path& path) {
  if (path.empty()) return;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code ignored;  // what cannot be looked at cannot be written, which access() says
  if (std::filesystem::is_directory(path, ignored))
    throw ConfigError(fmt::format("{} {}: is a folder; allowed: a file", option, path.string()));
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw ConfigError(fmt::format("{} {}: cannot write in {}: {}", option, path.string(), folder.string(),
                                  std::strerror(errno)));
  }
}

}  // namespace cosub::tools
