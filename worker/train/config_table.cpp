#include "worker/train/config_table.h"

#include <yaml-cpp/yaml.h>

#include "common/text.h"

namespace cosub::train {
namespace {

/// Maps become rows by dotted path; lists stay in one row.
void add_rows(std::vector<std::vector<std::string>>& rows, const std::string& path, const YAML::Node& node) {
  if (node.IsMap()) {
    for (const auto& item : node) {
      std::string key = item.first.as<std::string>();
      add_rows(rows, path.empty() ? key : path + "." + key, item.second);
    }
  } else if (!node.IsNull()) {
    YAML::Emitter out;
    out << YAML::Flow << node;
    rows.push_back({path, out.c_str()});
  }
}

}  // namespace

std::string config_table(const config::StageFile& file) {
  std::vector<std::vector<std::string>> rows{{"key", "value"}};
  add_rows(rows, "", YAML::Load(config::to_yaml(file)));
  return table(rows);
}

}  // namespace cosub::train
