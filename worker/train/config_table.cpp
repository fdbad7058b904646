#include "worker/train/config_table.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace cosub::train {
namespace {

/// Maps become rows by dotted path; lists stay in one row.
void add_rows(std::vector<std::pair<std::string, std::string>>& rows, const std::string& path,
              const YAML::Node& node) {
  if (node.IsMap()) {
    for (const auto& item : node) {
      std::string key = item.first.as<std::string>();
      add_rows(rows, path.empty() ? key : path + "." + key, item.second);
    }
  } else if (!node.IsNull()) {
    YAML::Emitter out;
    out << YAML::Flow << node;
    rows.emplace_back(path, out.c_str());
  }
}

}  // namespace

std::string config_table(const config::StageFile& file) {
  std::vector<std::pair<std::string, std::string>> rows;
  add_rows(rows, "", YAML::Load(config::to_yaml(file)));
  std::size_t width = 0;
  for (const auto& [key, value] : rows) width = std::max(width, key.size());
  std::string text;
  for (const auto& [key, value] : rows) text += fmt::format("  {:<{}}  {}\n", key, width, value);
  return text;
}

}  // namespace cosub::train
