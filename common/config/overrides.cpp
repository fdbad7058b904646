#include "common/config/overrides.h"

#include <fmt/format.h>

#include <system_error>

#include "common/config/scalar.h"
#include "common/config/yaml.h"
#include "common/text.h"

namespace cosub::config {
namespace {

std::string name_of(const Tree& stage) {
  const Tree* const name = stage.find("name");
  return name != nullptr ? name->scalar : "";
}

/// The stage that `rest` begins with, which is shortened by it; names may contain dots, so the longest one
/// that fits.
Tree* find_stage(Tree& stages, std::string_view& rest) {
  const std::string_view first = rest.substr(0, rest.find('.'));
  Tree* found = nullptr;
  std::size_t length = 0;
  for (std::size_t i = 0; i < stages.items.size(); ++i) {
    const std::string name = name_of(stages.items[i]);
    const bool begins =
        rest.substr(0, name.size()) == name && (rest.size() == name.size() || rest[name.size()] == '.');
    if (!name.empty() && begins && name.size() > length) {
      found = &stages.items[i];
      length = name.size();
    }
  }
  if (found == nullptr) {
    const std::optional<std::int64_t> index = read_int(first);
    if (!index || *index < 0 || *index >= static_cast<std::int64_t>(stages.items.size())) return nullptr;
    found = &stages.items[static_cast<std::size_t>(*index)];
    length = first.size();
  }
  rest.remove_prefix(std::min(rest.size(), length + 1));
  return found;
}

void refuse_stage(const Place& place, std::string_view rest, const Tree& stages, Problems& problems) {
  std::vector<std::string> names;
  for (const Tree& stage : stages.items) names.push_back(name_of(stage));
  const std::string given(rest.substr(0, rest.find('.')));
  problems.add(place, place.source->name,
               fmt::format("found no stage {}; allowed: {}.{}", quoted(given), fmt::join(names, ", "),
                           did_you_mean(given, names)));
}

void assign(Tree& target, Tree value) {
  if (value.kind == Tree::Kind::kMap && target.kind == Tree::Kind::kMap) {
    merge_under(value, target);
  }
  target = std::move(value);
}

/// Makes a key of a map, with the place of the --set, where there is none yet.
Tree& child(Tree& map, const std::string& key, const Place& place, const std::string& path) {
  if (map.find(key) == nullptr) {
    Tree nothing;
    nothing.place = place;
    nothing.path = path;
    map.set(key, std::move(nothing));
  }
  return *map.find(key);
}

void apply(Tree& document, const std::string& key, Tree value, Problems& problems) {
  const Place place = value.place;
  std::string_view rest = key;
  const auto walked = [&] {
    const std::string path = key.substr(0, key.size() - rest.size());
    return path.substr(0, path.find_last_not_of('.') + 1);
  };
  Tree* node = &document;
  while (!rest.empty()) {
    if (node->kind == Tree::Kind::kList && walked() == "stages") {
      Tree* const stage = find_stage(*node, rest);
      if (stage == nullptr) return refuse_stage(place, rest, *node, problems);
      node = stage;
      continue;
    }
    if (node->kind == Tree::Kind::kList) {
      const std::string list = walked();
      problems.add(place, key,
                   fmt::format("'{}' is a list; allowed: to set it as a whole, as in {}=[...].", list, list));
      return;
    }
    if (node->kind != Tree::Kind::kMap) {
      Tree map = Tree::map();
      map.place = place;
      map.path = walked();
      *node = std::move(map);
    }
    const std::string first(rest.substr(0, rest.find('.')));
    rest.remove_prefix(std::min(rest.size(), first.size() + 1));
    node = &child(*node, first, place, walked());
  }
  assign(*node, std::move(value));
}

}  // namespace

void apply_overrides(Tree& document, const std::vector<std::string>& overrides, Problems& problems) {
  std::error_code ignored;  // without a current folder relative paths stay relative
  const std::filesystem::path here = std::filesystem::current_path(ignored);
  for (const std::string& text : overrides) {
    const std::size_t equals = text.find('=');
    const std::string key = text.substr(0, equals);
    const auto source = std::make_shared<const Source>(Source{key, here, true});
    const bool has_empty_part =
        key.empty() || key.front() == '.' || key.back() == '.' || key.find("..") != std::string::npos;
    if (equals == std::string::npos || has_empty_part) {
      problems.add({source, 0, 0}, key,
                   fmt::format("found {}; allowed: KEY=VALUE, as in cluster.ranks=4.", quoted(text)));
      continue;
    }
    Tree value = read_yaml(text.substr(equals + 1), source, problems, key);
    if (!problems.concerns(key)) apply(document, key, std::move(value), problems);
  }
}

}  // namespace cosub::config
