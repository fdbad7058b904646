#include "common/config/fields.h"

#include <fmt/format.h>

#include "common/config/yaml.h"

namespace cosub::config {
namespace {

void collect_below(const Shape& shape, const std::string& prefix, const std::string& key,
                   std::vector<std::string>& found) {
  for (const ShapeRow& row : shape.rows) {
    if (row.key == key && !prefix.empty()) found.push_back(prefix + key);
    if (row.shape != nullptr)
      collect_below(*row.shape, prefix + row.key + (row.is_list ? "[]." : "."), key, found);
  }
}

}  // namespace

void refuse_unknown_key(const TreeEntry& entry, const Shape& shape, Problems& problems) {
  std::vector<std::string> keys;
  std::string listed;
  for (const ShapeRow& row : shape.rows) {
    keys.push_back(row.key);
    listed += (listed.empty() ? "" : ", ") + row.key;
  }
  std::string hint = did_you_mean(entry.key, keys);
  if (hint.empty()) {
    std::vector<std::string> below;
    collect_below(shape, "", entry.key, below);
    if (!below.empty()) hint = fmt::format(" Did you mean '{}'?", below.front());
  }
  problems.add(entry.place, entry.value.path,
               fmt::format("unknown key {}; allowed: {}.{}", quoted(entry.key), listed, hint));
}

void refuse_missing_key(const Tree& map, const ShapeRow& row, Problems& problems) {
  problems.add(map.place, join_path(map.path, row.key),
               fmt::format("found nothing, and it is required; allowed: {}.", row.allowed));
}

std::string default_shown(const Tree& tree) {
  if (tree.kind == Tree::Kind::kMap) return "";
  if (tree.kind == Tree::Kind::kList && tree.items.empty()) return "[]";
  if (tree.kind == Tree::Kind::kScalar && tree.scalar.empty()) return "";
  return print_flow(tree);
}

}  // namespace cosub::config
