#include "common/config/fields.h"

#include <fmt/format.h>

#include <algorithm>

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

void refuse_key_of_other_name(const Tree& tree, const ShapeRow& row, const std::string& name,
                              Problems& problems) {
  const auto entry_of = [&](const std::string& key) {
    return std::ranges::find(tree.entries, key, &TreeEntry::key);
  };
  const auto parent_of = [](const TreeEntry& entry) {
    return entry.value.path.substr(0, entry.value.path.size() - entry.key.size());
  };
  const auto given = entry_of(row.key), chosen = entry_of("name");
  if (given == tree.entries.end()) return;
  const Place& place = given->value.place;
  const bool set_for_stage =
      place.source && place.source->from_set && given->value.path.starts_with("stages");
  if (chosen != tree.entries.end()) {
    // What is inherited stands behind a stage's own keys, and has its own path.
    const bool is_inherited = !set_for_stage && chosen < given && parent_of(*chosen) != parent_of(*given);
    if (problems.concerns(chosen->value.path) || is_inherited) return;
  }
  problems.add(given->value.place, given->value.path,
               fmt::format("found {} with name: {}, which has no {}; allowed: with name: {}.",
                           shown(given->value), name, row.key, alternatives(row.only_with)));
}

std::string default_shown(const Tree& tree) {
  if (tree.kind == Tree::Kind::kMap) return "";
  if (tree.kind == Tree::Kind::kList && tree.items.empty()) return "[]";
  if (tree.kind == Tree::Kind::kScalar && tree.scalar.empty()) return "";
  return print_flow(tree);
}

}  // namespace cosub::config
