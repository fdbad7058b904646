#include "common/config/file.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

#include "common/config/yaml.h"

namespace cosub::config {
namespace {

constexpr std::uintmax_t kLargest = 4u << 20;  // bytes; a pipeline has a few thousand

std::shared_ptr<const Source> make_source(const std::string& name, const std::filesystem::path& folder) {
  std::error_code ignored;  // without a current folder relative paths stay relative
  const std::filesystem::path absolute = std::filesystem::absolute(folder.empty() ? "." : folder, ignored);
  return std::make_shared<const Source>(
      Source{name, (ignored ? folder : absolute).lexically_normal(), false});
}

}  // namespace

Tree read_yaml_text(const std::string& text, const std::string& name, const std::filesystem::path& folder,
                    Problems& problems) {
  return read_yaml(text, make_source(name, folder), problems);
}

Tree read_yaml_file(const std::filesystem::path& file, Problems& problems) {
  const Place place{make_source(file.string(), file.parent_path()), 0, 0};
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(file, error);
  std::ifstream stream(file, std::ios::binary);
  if (is_folder || !stream) {
    const std::string reason = is_folder ? "it is a folder" : std::generic_category().message(errno);
    problems.add(place, "", fmt::format("cannot be read: {}; allowed: a YAML file.", reason));
    return Tree();
  }
  std::string text(kLargest + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kLargest) {
    problems.add(place, "", fmt::format("larger than {} bytes; allowed: a YAML file.", kLargest));
    return Tree();
  }
  return read_yaml(text, place.source, problems);
}

}  // namespace cosub::config
